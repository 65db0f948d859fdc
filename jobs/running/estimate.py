"""What a plan will cost: tokens, hours and dollars of what is still to be drawn, and where each number comes from.

Nothing is started and nothing is spent: lengths come from the samples that are there, else from ``bench-engine``, else
the worst case is told as such; speed from the newest run with the same engine (of 100 samples and more), else from
``bench-engine``, else from a smaller run. What nobody knows is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cluster.engines import resolve
from cluster.planning.plan import RunPlan, StagePlan
from cluster.records.reader import manifests
from cluster.records.throughput import read_entry
from cluster.storage.delta import scan_store
from cluster.storage.root import Root
from jobs.running.episodes import Episodes, episodes_of
from operators.sample.sampling import Sampling
from schemas import datasets
from schemas.conversation import text_of
from schemas.engine import EngineSpec
from schemas.prices import MICRO, Prices, price_of
from schemas.throughput import ThroughputEntry

BYTES_PER_TOKEN = 4
"""Of a prompt, where nothing better is known."""
LOOKED_AT = 10_000
"""Where there are more problems, the prompts of so many tell the length of all: in the order of keys they are mixed."""
ENOUGH = 100
"""Samples of a run that tell an engine's speed; fewer tell it where nothing else does."""
REMEDY = "unknown: run gristmill bench-engine"


@dataclass(frozen=True)
class Estimate:
    """What one sampling stage still needs. Hours are of wall time with all replicas."""

    samples: int
    prompt_tokens: int
    completion_tokens: int
    tokens_from: str
    tokens_interval: tuple[int, int]
    """Of completion tokens: 95% where lengths were seen (problems drawn with replacement), else what can be at all."""
    hours: float | None
    throughput_from: str
    dollars: float | None
    """None: no price is known."""
    episodes: Episodes | None = None
    """Of a stage that plays a strategy: what its episodes will take, from which tokens and dollars are."""


def estimate(plan: RunPlan, table: Mapping[str, Prices] | None = None) -> dict[str, Estimate]:
    """Return stage -> estimate, for the sampling stages that have something to draw.

    Args:
        table: prices by model (``run.prices``), which go before those that were measured.
    """
    return {
        name: _estimate(plan, stage, table or {})
        for name, stage in plan.stages.items()
        if stage.stage.samples and _lacks(stage)
    }


def _lacks(stage: StagePlan) -> int:
    return stage.planned - stage.held


def _estimate(plan: RunPlan, stage: StagePlan, table: Mapping[str, Prices]) -> Estimate:
    spec, samples = stage.stage.engine, _lacks(stage)
    assert spec is not None
    model, revision = resolve(spec)
    entry = read_entry(plan.root, spec, model, revision)
    prompt, completion, spread, tokens_from = lengths(plan, stage, entry)
    episodes = episodes_of(plan.root, stage, prompt, table)
    if episodes is not None:  # a row tells one path's tokens, and an episode reads and writes many
        took = episodes.expected or episodes.worst
        known = f"the mean of {episodes.known:,} episodes that were played"
        tokens_from = known if episodes.expected is not None else f"at most, by strategy {episodes.strategy}"
        prompt, completion = (took.prompt_tokens + took.scorer_tokens) / samples, took.completion_tokens / samples
        spread = (0.0, episodes.worst.completion_tokens / samples)
    rate, throughput_from = _rate(plan.root, spec, model, revision, entry)
    seconds = samples * completion / (rate * spec.replicas) if rate else None
    prices = price_of(model, table) or (entry.prices if entry is not None else Prices())
    gpu_seconds = (seconds or 0.0) * spec.all_gpus
    micro = prices.microdollars(round(samples * prompt), 0, round(samples * completion), gpu_seconds)
    return Estimate(
        samples=samples,
        prompt_tokens=round(samples * prompt),
        completion_tokens=round(samples * completion),
        tokens_from=tokens_from,
        tokens_interval=(round(samples * spread[0]), round(samples * spread[1])),
        hours=None if seconds is None else seconds / 3600,
        throughput_from=throughput_from,
        dollars=None if micro is None or (seconds is None and prices.dollars_per_gpu_hour) else micro / MICRO,
        episodes=episodes,
    )


def lengths(
    plan: RunPlan, stage: StagePlan, entry: ThroughputEntry | None
) -> tuple[float, float, tuple[float, float], str]:
    """Return (prompt tokens, completion tokens) of a sample, an interval of the latter, and where they are from."""
    operator, store = stage.stage.operator, stage.store
    assert isinstance(operator, Sampling) and store is not None and stage.stage.engine is not None
    most = stage.stage.engine.most_completion(operator.max_tokens)
    if len(store.held):
        drawn = scan_store(plan.root, store.folder, datasets.Sample).filter(pl.col("status") == "ok")
        length = pl.col("completion_tokens")
        by_problem = drawn.group_by("problem_key").agg(pl.col("prompt_tokens").mean(), length.mean()).collect()
        if len(by_problem):
            prompt, completion = by_problem.select("prompt_tokens", "completion_tokens").mean().row(0)
            error = 1.96 * float(by_problem["completion_tokens"].std() or 0.0) / len(by_problem) ** 0.5  # pyright: ignore
            spread = max(0.0, completion - error), min(float(most), completion + error)
            return prompt, completion, spread, f"the mean of the {len(store.held):,} samples that are there"
    some = next(plan.problems.tables(plan.root)).head(LOOKED_AT)
    turns = (turn for row in some.iter_rows(named=True) for turn in operator.messages(row))
    prompt = sum(len(text_of(turn).encode()) for turn in turns) / len(some) / BYTES_PER_TOKEN
    possible = (1.0, float(most))
    if entry is not None:
        measured = min(entry.mean_completion_tokens, most)
        return entry.mean_prompt_tokens, measured, possible, "bench-engine"
    bound = "max_tokens" if most == operator.max_tokens else f"{most:,} tokens, by engine.extra_body,"
    return prompt, most, possible, f"the worst case: {bound} each, prompts at 4 bytes a token"


def _rate(
    root: Root, spec: EngineSpec, model: str, revision: str, entry: ThroughputEntry | None
) -> tuple[float | None, str]:
    """Return completion tokens a second of one replica, and where that is from."""
    family = str(getattr(spec, "kind", ""))
    few: tuple[float, str] | None = None
    for manifest in manifests(root):
        for record in manifest.stages:
            engine = record.engine
            if engine is None or (engine.model, engine.revision, engine.family) != (model, revision, family):
                continue
            rates = [found.tokens_per_second for found in record.replicas if found.tokens_per_second]
            if not rates:
                continue
            rate = sum(rates) / len(rates)
            if record.computed >= ENOUGH:
                return rate, f"run {manifest.run_id}"
            few = few or (rate, f"run {manifest.run_id}, whose {record.computed:,} samples tell it roughly")
    if entry is not None:
        return entry.best.completion_tokens_per_second, f"bench-engine on {entry.hardware}"
    return few or (None, REMEDY)
