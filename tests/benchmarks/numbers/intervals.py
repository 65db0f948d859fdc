"""How often the intervals of pass@k hold the truth, and how wide they are.

    python -m tests.benchmarks.numbers.intervals --data DIR --simulations 2000              # of new problems
    python -m tests.benchmarks.numbers.intervals --data DIR --simulations 1000 --same       # of these problems
    python -m tests.benchmarks.numbers.intervals --data DIR --simulations 500 --stopped 1:100,4:100  # both, stopped

New problems: P problems are drawn from a model's, and n samples of each; the truth is the mean over all. These
problems: P problems are drawn and kept for 10 simulations; the truth is theirs. Beside it, the interval of problems and
samples drawn again (what versions before 2 of the measure said of either). ``--stopped T:CAP``: each problem is drawn
until T right samples, or CAP.
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

from operators.measure.intervals import ends, new_problems, same_problems
from operators.measure.pass_at_k import estimate
from operators.measure.survival import first_success, interval
from tests.benchmarks.numbers.models import Floats, Ints, coverage, grid, parser, read_counts

PROBLEMS = (8, 30, 128)
SAMPLES = (10, 100, 1000)
KEPT = 10
"""Simulations in which the same problems are kept."""


def sizes(n: int) -> Ints:
    return np.unique([1, 8, n // 2, n])


def of_new(rates: Floats, problems: int, n: int, simulations: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the share of intervals that hold the truth and the mean width, at each k."""
    k = sizes(n)
    truth = coverage(rates, k)
    each = estimate(np.full(n + 1, n), np.arange(n + 1), k)
    held, width = np.zeros(len(k)), np.zeros(len(k))
    for number in range(simulations):
        values = each[rng.binomial(n, rng.choice(rates, problems))]
        low, high = new_problems(values, values, 1000, number)
        held += (low <= truth) & (truth <= high)
        width += high - low
    return held / simulations, width / simulations


def of_same(
    rates: Floats, problems: int, n: int, simulations: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the same of these problems, and of the interval of problems and samples drawn again."""
    k, all_n = sizes(n), np.full(problems, n)
    each = estimate(np.full(n + 1, n), np.arange(n + 1), k)
    found = np.zeros((4, len(k)))
    for number in range(simulations):
        if number % KEPT == 0:
            mine = rng.choice(rates, problems)
            truth = coverage(mine, k)
        c = rng.binomial(n, mine)
        value = each[c].mean(axis=0)
        low, high = ends(same_problems(all_n, c, k, 1000, number), value)
        found[:2] += (low <= truth) & (truth <= high), high - low
        low, high = twice(c, n, each, rng)
        found[2:] += (low <= truth) & (truth <= high), high - low
    held, width, before_held, before_width = found / simulations
    return held, width, before_held, before_width


def twice(c: Ints, n: int, each: Floats, rng: np.random.Generator, replicates: int = 200) -> tuple[Floats, Floats]:
    """Return the interval of problems drawn again, and of each its samples, centred on the estimate."""
    right = rng.binomial(n, rng.choice(c, (replicates, len(c))) / n)
    means, value = each[right].mean(axis=1), each[c].mean(axis=0)
    low, high = np.quantile(means - means.mean(axis=0) + value, [0.025, 0.975], axis=0)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def of_stopped(
    rates: Floats, problems: int, cell: tuple[int, int], simulations: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the same of new problems, and of these, where each is drawn until so many right samples, or a cap."""
    target, cap = cell
    k = sizes(cap)
    found = np.zeros((4, len(k)))
    for number in range(simulations):
        mine = rng.choice(rates, problems)
        right = rng.random((problems, cap)) < mine[:, None]
        so_far = right.cumsum(axis=1)
        kept = (so_far - right) < target
        n, c = kept.sum(axis=1), (kept & right).sum(axis=1)
        first = np.where(c > 0, right.argmax(axis=1) + 1, 0)
        of_these = ends(same_problems(n, c, k, 400, number), first_success(n, first, k))
        for place, truth, (low, high) in (
            (0, coverage(rates, k), interval(n, first, k, 1000, number)),
            (2, coverage(mine, k), of_these),
        ):
            found[place : place + 2] += (low <= truth) & (truth <= high), high - low
    held, width, same_held, same_width = found / simulations
    return held, width, same_held, same_width


def stopped(options: argparse.Namespace, rng: np.random.Generator) -> None:
    rows: list[tuple[object, ...]] = []
    for model, (all_n, all_c) in read_counts(options).items():
        for problems in PROBLEMS:
            for cell in options.stopped.split(","):
                target, cap = map(int, cell.split(":"))
                found = of_stopped(all_c / all_n, problems, (target, cap), options.simulations, rng)
                rows += [(model, problems, cell, k, *row) for k, *row in zip(sizes(cap).tolist(), *found, strict=True)]
    table = grid(rows, ["model", "P", "T:CAP", "k", "covers", "width", "same_covers", "same_width"])
    least = table.group_by("P").agg(pl.col("covers", "same_covers").min(), pl.col("width", "same_width").mean())
    grid(least.sort("P").rows(), least.columns)


def main() -> None:
    options = parser(__doc__, 2000)
    options.add_argument("--stopped", default="", help="T:CAP,...")
    options.add_argument("--same", action="store_true", help="the interval of these problems")
    chosen = options.parse_args()
    rng = np.random.default_rng(chosen.seed)
    if chosen.stopped:
        return stopped(chosen, rng)
    rows: list[tuple[object, ...]] = []
    for model, (all_n, all_c) in read_counts(chosen).items():
        for problems in PROBLEMS:
            for n in SAMPLES:
                measure = of_same if chosen.same else of_new
                found = measure(all_c / all_n, problems, n, chosen.simulations, rng)
                rows += [(model, problems, n, k, *row) for k, *row in zip(sizes(n).tolist(), *found, strict=True)]
    names = ["model", "P", "n", "k", "covers", "width", *(["before_covers", "before_width"] if chosen.same else [])]
    table = grid(rows, names)
    shares = [pl.col(name).mean() for name in names[5:] if "width" in name]
    by_size = table.group_by("P").agg(pl.col("covers").min().alias("least_cover"), pl.col("covers").mean(), *shares)
    grid(by_size.sort("P").rows(), by_size.columns)


if __name__ == "__main__":
    main()
