"""What the episodes of a strategy will take: at most, by the strategy's own word, and by those that were played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cluster.engines import resolve
from cluster.planning.plan import StagePlan
from cluster.storage.delta import scan_store
from cluster.storage.root import Root
from operators.sample.sampling import Sampling
from schemas.datasets import Sample
from schemas.engine import EngineSpec
from schemas.prices import MICRO, Prices, price_of

SUMS = ("calls", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "scorer_passes", "scorer_tokens")


@dataclass(frozen=True)
class Took:
    """What some episodes take.

    Attributes:
        calls: requests for completions.
        prompt_tokens: read by these, each step's beginning again.
        scorer_tokens: read by the scorers.
        dollars: None: a price isn't known.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    scorer_passes: int
    scorer_tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Episodes:
    """What the episodes that a sampling stage lacks will take.

    Attributes:
        episodes: how many they are, and ``rows`` samples of each.
        expected: None before some were played.
        known: how many were.
        roles: where the engines of the strategy's other roles run, for people.
    """

    strategy: str
    episodes: int
    rows: int
    worst: Took
    expected: Took | None
    known: int
    roles: dict[str, str]


def episodes_of(root: Root, stage: StagePlan, prompt: float, table: Mapping[str, Prices]) -> Episodes | None:
    """Return what a sampling stage's episodes will take; None where it plays no strategy.

    Args:
        prompt: tokens of a problem's prompt.
        table: prices by model (``run.prices``).
    """
    operator = stage.stage.operator
    if not isinstance(operator, Sampling) or operator.strategy is None:
        return None
    lacking = -(-(stage.planned - stage.held) // operator.rows)
    worst = operator.strategy.worst(round(prompt), operator.max_tokens)
    mean, known = _mean(root, stage)
    prices = [price_of(resolve(spec)[0], table) for spec in _engines(stage)]
    return Episodes(
        operator.strategy.public_name(),
        lacking,
        operator.rows,
        _took(worst.parts, lacking, prices),
        None if mean is None else _took(mean, lacking, prices),
        known,
        {role: _place(spec) for role, spec in stage.stage.engines.items()},
    )


def _place(spec: EngineSpec) -> str:
    if not spec.needs_pool:
        return "in the workers of the stage's own engine"
    replicas = "1 replica" if spec.replicas == 1 else f"{spec.replicas} replicas"
    turns = "" if spec.takes_turns is None else f", in turn ('{spec.takes_turns}')"
    return f"{replicas} of its own, {spec.all_gpus:g} GPU(s){turns}"


def _engines(stage: StagePlan) -> list[EngineSpec]:
    assert stage.stage.engine is not None
    return [stage.stage.engine, *stage.stage.engines.values()]


def _mean(root: Root, stage: StagePlan) -> tuple[tuple[float, ...] | None, int]:
    """Return the mean of what the episodes in the store took, in the order of a bill, and how many they are."""
    if stage.store is None or not len(stage.store.held):
        return None, 0
    facts = pl.Struct(dict.fromkeys(SUMS, pl.Int64()))
    played = scan_store(root, stage.folder, Sample).filter(pl.col("episode_facts").is_not_null())
    took = played.select(pl.col("episode_facts").str.json_decode(facts)).unnest("episode_facts")
    found = took.select(pl.len(), *[pl.col(name).mean() for name in SUMS]).collect().row(0, named=True)
    if not found["len"]:
        return None, 0
    return tuple(found[name] for name in SUMS), found["len"]


def _took(each: tuple[float, ...], episodes: int, prices: list[Prices | None]) -> Took:
    calls, prompt, cached, completion, passes, scored = (round(one * episodes) for one in each)
    own, *others = prices
    return Took(calls, prompt, completion, passes, scored, _dollars(own, others, prompt, cached, completion, scored))


def _dollars(
    own: Prices | None, others: list[Prices | None], prompt: int, cached: int, completion: int, scored: int
) -> float | None:
    """Return what tokens cost; scorers' at the dearest price of those that may have read them."""
    known = [found.rates for found in (own, *others) if found is not None]
    rates = [rate for rate in known if rate is not None]
    if own is None or own.rates is None or len(rates) < 1 + len(others):
        return None
    fresh, again, written = own.rates
    scoring = max(rate[0] for rate in (rates[1:] or rates))
    return ((prompt - cached) * fresh + cached * again + completion * written + scored * scoring) / MICRO


def lines(found: Episodes) -> list[str]:
    """Say it for people."""
    said = [f"  episodes {found.episodes:,} of {found.strategy}, {found.rows} sample(s) each"]
    if found.expected is not None:
        said.append(f"  expected {_said(found.expected)} (the mean of {found.known:,} that were played)")
    return [*said, f"  at most  {_said(found.worst)}", *(f"  {role:8} {place}" for role, place in found.roles.items())]


def _said(took: Took) -> str:
    calls = f"{took.calls:,} calls, {took.prompt_tokens:,} tokens read, {took.completion_tokens:,} written"
    scoring = f", {took.scorer_passes:,} scores of {took.scorer_tokens:,} tokens" if took.scorer_passes else ""
    return calls + scoring + ("" if took.dollars is None else f", ${took.dollars:,.2f}")
