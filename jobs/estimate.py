"""What a plan will cost: tokens, hours and dollars of what is still to be drawn, and where each number comes from.

Nothing is started and nothing is spent: lengths come from the samples that are there, else from ``bench-engine``, else
the worst case is told as such; speed from the newest run with the same engine, else from ``bench-engine``. What nobody
knows is None, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from cluster.engines import resolve
from cluster.plan import RunPlan, StagePlan
from cluster.records import manifests
from cluster.storage.root import Root
from cluster.storage.store import scan_store
from cluster.throughput import read_entry
from operators.sample.sample import Sample
from schemas import datasets
from schemas.engine import EngineSpec
from schemas.prices import MICRO, Prices
from schemas.throughput import ThroughputEntry

BYTES_PER_TOKEN = 4
"""Of a prompt, where nothing better is known."""
REMEDY = "unknown: run gristmill bench-engine"


@dataclass(frozen=True)
class Estimate:
    """What one sampling stage still needs. Hours are of wall time with all replicas."""

    samples: int
    prompt_tokens: int
    completion_tokens: int
    tokens_from: str
    hours: float | None
    throughput_from: str
    dollars: float | None
    """None: no price is known."""


def estimate(plan: RunPlan) -> dict[str, Estimate]:
    """Return stage -> estimate, for the sampling stages that have something to draw."""
    return {
        name: _estimate(plan, stage) for name, stage in plan.stages.items() if stage.stage.samples and _lacks(stage)
    }


def _lacks(stage: StagePlan) -> int:
    return stage.planned - stage.held


def _estimate(plan: RunPlan, stage: StagePlan) -> Estimate:
    spec, samples = stage.stage.engine, _lacks(stage)
    assert spec is not None
    model, revision = resolve(spec)
    entry = read_entry(plan.root, spec, model, revision)
    prompt, completion, tokens_from = _lengths(plan, stage, entry)
    rate, throughput_from = _rate(plan.root, spec, model, revision, entry)
    seconds = samples * completion / (rate * spec.replicas) if rate else None
    prices = entry.prices if entry is not None else Prices()
    gpu_seconds = (seconds or 0.0) * spec.replicas * spec.ranks * spec.gpus
    micro = prices.microdollars(round(samples * prompt), 0, round(samples * completion), gpu_seconds)
    return Estimate(
        samples=samples,
        prompt_tokens=round(samples * prompt),
        completion_tokens=round(samples * completion),
        tokens_from=tokens_from,
        hours=None if seconds is None else seconds / 3600,
        throughput_from=throughput_from,
        dollars=None if micro is None or (seconds is None and prices.dollars_per_gpu_hour) else micro / MICRO,
    )


def _lengths(plan: RunPlan, stage: StagePlan, entry: ThroughputEntry | None) -> tuple[float, float, str]:
    """Return (prompt tokens, completion tokens) of a sample, and where they are from."""
    operator, store = stage.stage.operator, stage.store
    assert isinstance(operator, Sample) and store is not None
    if len(store.held):
        drawn = scan_store(plan.root, store.folder, datasets.Sample).filter(pl.col("status") == "ok")
        means = drawn.select("prompt_tokens", "completion_tokens").mean()
        prompt, completion = means.collect().row(0)
        if completion is not None:
            return prompt, completion, f"the mean of the {len(store.held):,} samples that are there"
    texts = (
        sum(len(turn["content"].encode()) for turn in operator.messages(row))
        for row in plan.problems.iter_rows(named=True)
    )
    prompt = sum(texts) / len(plan.problems) / BYTES_PER_TOKEN
    if entry is not None:
        return entry.mean_prompt_tokens, min(entry.mean_completion_tokens, operator.max_tokens), "bench-engine"
    return prompt, operator.max_tokens, "the worst case: max_tokens each, prompts at 4 bytes a token"


def _rate(
    root: Root, spec: EngineSpec, model: str, revision: str, entry: ThroughputEntry | None
) -> tuple[float | None, str]:
    """Return completion tokens a second of one replica, and where that is from."""
    family = str(getattr(spec, "kind", ""))
    for manifest in manifests(root):
        for record in manifest.stages:
            engine = record.engine
            if engine is None or (engine.model, engine.revision, engine.family) != (model, revision, family):
                continue
            rates = [found.tokens_per_second for found in record.replicas if found.tokens_per_second]
            if rates and record.computed >= 100:
                return sum(rates) / len(rates), f"run {manifest.run_id}"
    if entry is not None:
        return entry.best.completion_tokens_per_second, f"bench-engine on {entry.hardware}"
    return None, REMEDY
