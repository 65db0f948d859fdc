"""What control variates are worth, and whether measure.estimate says so

    python -m tests.benchmarks.estimate [--data DIR]

Simulated samples, of which a part is judged; cheap are a noisy likelihood and a verifier that errs. Printed for all
samples, for hard problems and for easy ones: how often the 95% intervals held the truth (about problems like these, and
about these samples), the factor by which variance shrank as the operator says and as it did, and the variance relative
to that of the group estimated apart, with its own samples alone.

With --data (which has gsm8k_labelled_completions.parquet: 660 problems, 4 models' completions) a fifth is judged anew
each time, samples or whole problems; cheap are length, agreement of the four, and agreement with the smallest verified
model. The truth is the mean of all labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from operators.numeric.control_variates import Expectation, Sampled, estimate

GROUPS = ("all", "hard", "easy")
DESIGNS = ("samples", "problems", "adaptive")


class Drawn(NamedTuple):
    """Samples of some problems, all labelled: y, cheap [.., features], hard, each [problems, samples]."""

    y: Any
    cheap: Any
    hard: Any


def simulated(problems: int, samples: int, rng: np.random.Generator) -> Drawn:
    """Return samples whose verdicts cheap scores tell something about."""
    level = rng.normal(0.0, 1.2, problems)
    logit = level[:, None] + rng.normal(0.0, 1.0, (problems, samples))
    y = (rng.random(logit.shape) < 1.0 / (1.0 + np.exp(-3.0 * logit))).astype(np.float64)
    accepted = np.where(y == 1, rng.random(y.shape) < 0.85, rng.random(y.shape) < 0.2)
    cheap = np.stack([logit + rng.normal(0.0, 0.7, logit.shape), accepted], axis=-1)
    return Drawn(y, cheap, np.broadcast_to((level < 0.0)[:, None], y.shape))


def judged(drawn: Drawn, design: str, share: float, rng: np.random.Generator) -> Sampled:
    """Return the samples with a part of them judged; ``adaptive`` prefers those that the likelihood isn't sure of."""
    shape = drawn.y.shape
    chance = np.full(shape, share)
    if design == "adaptive":
        chance = np.clip(share * 2.0 / (1.0 + np.exp(np.abs(drawn.cheap[..., 0]) - 1.0)), 0.05, 1.0)
    lot = rng.random(shape[0])[:, None] if design == "problems" else rng.random(shape)
    some = np.broadcast_to(lot < chance, shape)
    problem = np.repeat(np.arange(shape[0]), shape[1])
    cheap = drawn.cheap.reshape(len(problem), -1)
    return Sampled(drawn.y.ravel(), some.ravel(), chance.ravel(), cheap, problem, design == "problems")


def groups_of(drawn: Drawn) -> Any:
    """Return which samples are in each of ``GROUPS``."""
    hard = drawn.hard.ravel()
    return np.stack([np.ones_like(hard), hard, ~hard], axis=1)


def apart(sampled: Sampled, group: Any) -> Expectation:
    """Return a group's expectation, estimated from its own samples alone, all of each problem's."""
    problem = np.unique(sampled.problem[group], return_inverse=True)[1]
    columns = (sampled.y, sampled.judged, sampled.chance, sampled.cheap)
    own = Sampled(*(column[group] for column in columns), problem, sampled.whole)
    return estimate(own, np.ones((len(problem), 1), dtype=np.bool_), 0)[0]


class Result(NamedTuple):
    """What came of many estimates of one group."""

    cover: float
    same_cover: float
    said: float
    seen: float
    same_said: float
    same_seen: float
    to_apart: float


def summary(found: list[Expectation], alone: list[Expectation], truth: Any, same: Any) -> Result:
    """Return how the estimates did, given what is true of all problems and of each time's samples."""
    columns = {name: np.array([getattr(one, name) for one in found]) for name in Expectation._fields}
    wide, same_wide = (stats.t.ppf(0.975, columns[name]) for name in ("freedom", "same_freedom"))
    off, same_off = columns["value"] - truth, columns["value"] - same
    plain, same_plain = columns["plain"] - truth, columns["plain"] - same
    single = np.array([one.value for one in alone]) - same
    return Result(
        float((np.abs(off) < wide * columns["error"]).mean()),
        float((np.abs(same_off) < same_wide * columns["same_error"]).mean()),
        float((columns["plain_error"] ** 2).mean() / (columns["error"] ** 2).mean()),
        float(plain.var() / off.var()) if off.var() > 0 else 1.0,
        float((columns["plain_same_error"] ** 2).mean() / (columns["same_error"] ** 2).mean()),
        float(same_plain.var() / same_off.var()),
        float(same_off.var() / single.var()),
    )


def simulations(design: str, times: int, problems: int = 200, samples: int = 8, share: float = 0.2) -> list[Result]:
    """Return a result for each of ``GROUPS``."""
    far = simulated(200_000, 4, np.random.default_rng(1_000_000))
    truths = [float(far.y.ravel()[column].mean()) for column in groups_of(far).T]
    found: list[list[Expectation]] = []
    alone: list[list[Expectation]] = []
    same: list[list[float]] = []
    for seed in range(times):
        rng = np.random.default_rng(seed)
        drawn = simulated(problems, samples, rng)
        sampled, groups = judged(drawn, design, share, rng), groups_of(drawn)
        found.append(estimate(sampled, groups, 0))
        alone.append([apart(sampled, column) for column in groups.T])
        same.append([float(drawn.y.ravel()[column].mean()) for column in groups.T])
    columns = zip(zip(*found, strict=True), zip(*alone, strict=True), truths, np.array(same).T, strict=True)
    return [summary(list(one), list(other), truth, own) for one, other, truth, own in columns]


def gsm8k(data: str) -> tuple[Any, Any, list[str]]:
    """Return labels [problems, models], cheap features [.., features], and the models' names."""
    table = pl.read_parquet(f"{data}/gsm8k_labelled_completions.parquet").sort("problem_id", "model")
    said = pl.col("completion").str.split("A:").list.last().str.extract(r"(-?[\d,.]+)")
    table = table.with_columns(
        said=said.fill_null(""), tokens=pl.col("completion").str.len_chars().cast(pl.Float64).log()
    )
    small = pl.col("said").filter(pl.col("model") == "6b_verification").first().over("problem_id")
    table = table.with_columns(
        often=pl.len().over("problem_id", "said") / 4.0, agrees=(pl.col("said") == small).cast(pl.Float64)
    )
    models: list[str] = table["model"].unique().sort().to_list()
    cheap = table.select(
        "tokens", "often", "agrees", *((pl.col("model") == name).cast(pl.Float64).alias(name) for name in models)
    )
    shape = (len(table) // 4, 4)
    return table["is_correct"].to_numpy().reshape(shape).astype(float), cheap.to_numpy().reshape(*shape, -1), models


def on_gsm8k(data: str, design: str, times: int, share: float = 0.2) -> Iterator[tuple[str, Result]]:
    """Yield the results of all completions and of each model's."""
    y, cheap, models = gsm8k(data)
    flat = np.broadcast_to(np.arange(4), y.shape).ravel()
    groups = np.stack([np.ones(y.size, dtype=np.bool_), *(flat == number for number in range(4))], axis=1)
    drawn = Drawn(y, cheap, np.zeros_like(y, dtype=np.bool_))
    found: list[list[Expectation]] = []
    alone: list[list[Expectation]] = []
    for seed in range(times):
        sampled = judged(drawn, design, share, np.random.default_rng(seed))
        found.append(estimate(sampled, groups, 0))
        alone.append([apart(sampled, column) for column in groups.T])
    for name, one, other, column in zip(
        ("all", *models), zip(*found, strict=True), zip(*alone, strict=True), groups.T, strict=True
    ):
        truth = float(y.ravel()[column].mean())
        yield name, summary(list(one), list(other), truth, truth)


def show(name: str, one: Result) -> None:
    print(
        f"  {name:<18} cover {one.cover:.3f}, same {one.same_cover:.3f}; shrinks by {one.said:.2f} (seen "
        f"{one.seen:.2f}), same {one.same_said:.2f} (seen {one.same_seen:.2f}); variance to apart {one.to_apart:.2f}"
    )


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--times", type=int, default=1000)
    made.add_argument("--data")
    options = made.parse_args()
    for design in DESIGNS:
        print(f"simulated, judged: {design}")
        for name, one in zip(GROUPS, simulations(design, options.times), strict=True):
            show(name, one)
    for design in DESIGNS[:2] if options.data else ():
        print(f"GSM8K, judged: {design}")
        for name, one in on_gsm8k(options.data, design, options.times):
            show(name, one)


if __name__ == "__main__":
    main()
