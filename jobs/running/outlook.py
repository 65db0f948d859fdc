"""What a budget will bring, before it is spent: how many samples it affords, the coverage to expect, what more costs.

Coverage is forecast from the verdicts that are there and the rule by which they came about (``measure.forecast``), as
if every problem got the same number of samples; a policy reaches the same with fewer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from cluster.planning.plan import RunPlan, StagePlan
from cluster.records.rules import rules_of_store
from cluster.spending.history import History
from cluster.storage.delta import scan_store
from cluster.storage.slices import scan_files
from jobs.running.asking import Asking
from jobs.running.estimate import Estimate
from operators.sample.sampling import Sampling
from schemas.books import Allocation
from schemas.budget import Budget
from schemas.datasets import Verdict
from schemas.prices import MICRO

STEPS = (1, 2, 4, 8, 16)
"""Multiples of the samples that are there at which coverage is shown."""
NOTHING = 0.05
"""Percent of coverage: where twice the samples bring less, there is nothing left to gain."""
FEWEST = 2
"""Samples per problem below which nothing is forecast."""


@dataclass(frozen=True)
class Point:
    """Coverage with so many samples of every problem, and the cost of one more percent from the point before.

    Attributes:
        cost: of all samples together, in dollars where a price is known, else in tokens.
        gained: percent of coverage from the point before; None for the first point.
        per_percent: None for the first point, and where there is nothing left to gain (``NOTHING``).
    """

    k: int
    coverage: float
    low: float
    high: float
    cost: float
    gained: float | None
    per_percent: float | None


@dataclass(frozen=True)
class Outlook:
    """What one sampling stage's budget will bring.

    Attributes:
        affords: samples that the budget still affords, from shortest to longest samples as measured; None without caps.
        binds: which cap ends it.
        unit: of costs, "dollars" or "tokens".
        at_budget: what is expected when the budget is spent evenly; None where nothing can be forecast.
        worth_until: samples per problem up to which 1% of coverage costs no more than it is said to be worth.
        draws: what ``k`` and ``worth_until`` count: "samples", or "episodes" of a strategy.
    """

    affords: tuple[int, int, int] | None
    binds: str
    unit: str
    points: list[Point]
    at_budget: Point | None
    worth_until: int | None
    draws: str = "samples"


def outlook(
    plan: RunPlan,
    stage: StagePlan,
    found: Estimate,
    budget: Budget | None,
    worth: float | None = None,
    asked: Collection[Asking] = (),
) -> Outlook:
    """Return what is to be expected of a sampling stage.

    Args:
        worth: what 1% of coverage is worth, in dollars (tokens where no price is known).
        asked: what other stages will ask about each sample, which is paid from the same budget.
    """
    each = (found.prompt_tokens + found.completion_tokens) / max(1, found.samples) + sum(one.each for one in asked)
    priced = found.dollars is not None and found.samples > 0
    judging = sum((one.dollars or 0.0) / max(1, one.samples) for one in asked)
    price = (found.dollars or 0.0) / max(1, found.samples) + judging if priced else each
    affords, binds = _affords(plan, stage, found, budget, each, price)
    counts = _counts(plan, stage)
    problems = len(plan.problems)
    operator = stage.stage.operator
    assert isinstance(operator, Sampling)
    rows, draws = operator.rows, "samples" if operator.strategy is None else "episodes"
    if counts is None:
        return Outlook(affords, binds, "dollars" if priced else "tokens", [], None, None, draws)
    now = max(1, int(counts.filter(pl.col("n") > 0)["n"].median() or 1))  # pyright: ignore[reportArgumentType]
    held = int(counts["n"].sum())
    wanted = max(now, round((held + affords[1] / rows) / problems)) if affords is not None else None
    ks = sorted({now * step for step in STEPS} | ({wanted} if wanted is not None else set()))
    points = points_of(_forecast(counts, ks), problems * price * rows)
    at_budget = next((point for point in points if point.k == wanted), None)
    until = None if worth is None else worth_until(points, worth)
    return Outlook(affords, binds, "dollars" if priced else "tokens", points, at_budget, until, draws)


def points_of(curve: Iterable[tuple[int, float, float, float]], each: float) -> list[Point]:
    """Return the points of a curve of coverage, with what each step costs.

    Args:
        curve: k, coverage and its interval, from the smallest k.
        each: what one more sample of every problem costs.
    """
    points: list[Point] = []
    for k, coverage, low, high in curve:
        before = points[-1] if points else None
        gained = None if before is None else 100 * (coverage - before.coverage)
        per_percent = None
        if before is not None and gained is not None and gained >= NOTHING * math.log2(k / before.k):
            per_percent = (k - before.k) * each / gained
        points.append(Point(k, coverage, low, high, k * each, gained, per_percent))
    return points


def worth_until(points: Sequence[Point], worth: float) -> int | None:
    """Return the samples per problem up to which one more percent costs no more than it is worth."""
    paying = [point.k for point in points if point.gained is None or _price(point) <= worth]
    return paying[-1] if paying else None


def _price(point: Point) -> float:
    return math.inf if point.per_percent is None else point.per_percent


def _affords(
    plan: RunPlan, stage: StagePlan, found: Estimate, budget: Budget | None, each: float, price: float
) -> tuple[tuple[int, int, int] | None, str]:
    """Return how many more samples the tightest cap affords (least, expected, most), and which it is."""
    if budget is None:
        return None, ""
    spent = History(plan.root, budget.account or plan.pipeline.name).spent
    whole = max(1, found.prompt_tokens + found.completion_tokens)
    scale = [(found.prompt_tokens + end) / whole for end in found.tokens_interval]
    options: list[tuple[float, str]] = []
    if budget.samples is not None:
        options.append((max(0, budget.samples - spent.samples), "samples"))
    if budget.tokens is not None:
        options.append((max(0, budget.tokens - spent.tokens) / max(1.0, each), "tokens"))
    if budget.dollars is not None and found.dollars:
        left = budget.dollars - spent.microdollars / MICRO
        options.append((max(0.0, left) / price, "dollars"))
    for name, hours in (("hours", budget.hours), ("gpu_hours", budget.gpu_hours)):
        if hours is not None and found.hours:
            gpus = stage.stage.all_gpus if name == "gpu_hours" else 1.0
            options.append((hours / (found.hours * gpus) * found.samples if gpus else float("inf"), name))
    if not options:
        return None, ""
    samples, binds = min(options)
    samples = min(samples, found.samples)
    if binds == "samples":
        return (int(samples), int(samples), int(samples)), binds
    shortest, longest = (samples / factor if factor else samples for factor in scale)
    return (int(min(longest, samples)), int(samples), int(min(max(shortest, samples), found.samples))), binds


def _counts(plan: RunPlan, stage: StagePlan) -> pl.DataFrame | None:
    """Return what ``MeasureForecast`` keeps of the verdicts that are there; None where there are too few."""
    for other in plan.stages.values():
        if other.stage.operator.output is Verdict and stage.stage in other.stage.inputs.values() and other.held:
            keys = plan.problems.keys.to_frame("problem_key").lazy()
            from operators.measure.forecast import MeasureForecast  # loads scipy: only a plan with verdicts pays for it

            names = MeasureForecast.inputs["verdicts"].names
            rows = scan_store(plan.root, other.folder, Verdict).select(names).join(keys, on="problem_key", how="semi")
            rules = scan_files(plan.root, rules_of_store(plan.root, stage.folder).uris, Allocation)
            log = rules.select(MeasureForecast.inputs["allocations"].names).join(keys, on="problem_key", how="semi")
            counts = MeasureForecast().partial(verdicts=rows.collect(), allocations=log.collect())
            usual = counts.filter(pl.col("n") > 0)["n"].median()
            return counts if usual is not None and float(usual) >= FEWEST else None  # pyright: ignore[reportArgumentType]
    return None


def _forecast(counts: pl.DataFrame, ks: list[int]) -> list[tuple[int, float, float, float]]:
    from operators.measure.forecast import MeasureForecast

    table = MeasureForecast(k=tuple(ks), bootstrap=20).merge(counts)
    ours = table.filter(pl.col("method") == "combined").sort("k")
    return list(ours.select("k", "coverage", "low", "high").iter_rows())
