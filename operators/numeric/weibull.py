"""Mixtures of two Weibull distributions, fitted to many problems at once by maximum likelihood.

    f(p) = w Weibull(p; k1, l1) + (1 - w) Weibull(p; k2, l2),   Weibull(p; k, l) = k/l (p/l)^(k-1) exp(-(p/l)^k)

The likelihood has several local maxima, and where a component can collapse onto one value it has no largest one. Which
fit is meant is therefore defined by its road: L-BFGS-B from ``START`` (Zhou et al. 2025, "Bridging Internal Probability
and Self-Consistency", section RPC). The road is the same for all problems and they go it together, each with its own
steps. Where a problem has many values the road is gone on about a hundred points that stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from operators.numeric.lbfgsb import minimize
from schemas.later import Bools, Floats, Ints, np, pl

Result = TypeVar("Result")

START = (0.5, 1.0, 1.0, 1.5, 2.0)
LOWER = (0.2, 0.01, 0.01, 0.01, 0.01)
UPPER = (0.8, math.inf, math.inf, math.inf, math.inf)
"""Of w, k1, l1, k2, l2."""

MANY = 2_048
"""Problems with more values are fitted to points first. Where the likelihood is flat even the last digits of its sums
decide how far the road leads, so others are fitted to their values from the start."""
POINTS = 128
"""At most so many points stand for a problem's values."""
BLOCK = 250_000
"""Values reduced to points at once (a dozen arrays of 2 MB)."""
BATCH = 2_000_000
"""Cells of the tables that are fitted at once (two arrays of 16 MB, and some of the problems' own)."""
CHUNK = 8_192
"""Cells in one pass, so that what a pass holds stays in the processor's cache."""
LARGEST = 300.0
"""Of the exponent in (p/l)^k; beyond it a density is 0 anyhow."""


@dataclass(frozen=True)
class Table:
    """Values of many problems in rows of one width.

    Attributes:
        logs: ln p, shape [problems, width].
        weights: how many values each stands for, 0 where a row isn't full; same shape.
        totals: sums of the weights and of weight times ln p, shape [problems, 2].
    """

    logs: Floats
    weights: Floats
    totals: Floats

    @classmethod
    def pack(cls, values: Floats, weights: Floats, sizes: Ints, width: int) -> Table:
        """Lay ragged values out in rows; ``sizes`` (1 to ``width``) are the problems' numbers of values."""
        cells = np.arange(width) < sizes[:, None]
        logs, counts = np.zeros(cells.shape), np.zeros(cells.shape)
        logs[cells], counts[cells] = values, weights
        starts = np.cumsum(sizes) - sizes
        totals = np.stack([np.add.reduceat(weights, starts), np.add.reduceat(weights * values, starts)], axis=1)
        return cls(logs, counts, totals)

    def evaluate(self, theta: Floats, problems: Ints) -> tuple[Floats, Floats]:
        """Return the negative log-likelihoods [problems] and their gradients [problems, 5] of some problems."""
        lines = line_terms(theta)
        sums = np.empty((len(problems), 6))
        step = max(1, CHUNK // self.logs.shape[1])
        for start in range(0, len(problems), step):
            part = slice(start, start + step)
            chosen = problems[part]
            sums[part] = _sums(self.logs[chosen], self.weights[chosen], theta[part], lines[part])
        return _likelihood(sums, self.totals[problems], theta, lines)


def line_terms(theta: Floats) -> Floats:
    """Return ln(w k1 / l1^k1) and ln((1-w) k2 / l2^k2): what the log densities are at ln p = 0, but for (p/l)^k."""
    w, k1, l1, k2, l2 = theta.T
    return np.stack([np.log(w * k1) - k1 * np.log(l1), np.log((1 - w) * k2) - k2 * np.log(l2)], axis=1)


def _sums(logs: Floats, weights: Floats, theta: Floats, lines: Floats) -> Floats:
    """Return what likelihood and gradient need of each row, shape [rows, 6].

    With r1, r2 the shares of the components in a value's density and z = (p/l)^k, these are the sums over a row of
    ln f less the line of component 2, r1, r1 (1 - z1), r2 (1 - z2), r1 (1 - z1) ln p and r2 (1 - z2) ln p.
    """
    _, k1, l1, k2, l2 = theta.T[:, :, None]
    z1, z2 = powers(logs, k1, k1 * np.log(l1)), powers(logs, k2, k2 * np.log(l2))
    ahead = (k1 - k2) * logs
    ahead += (lines[:, 0] - lines[:, 1])[:, None]
    ahead -= z1
    odds = ahead + z2
    first = odds > 0
    small: Floats = np.exp(np.copysign(odds, -1.0, out=odds), out=odds)
    total = small + 1.0
    larger: Floats = weights / total
    small *= larger
    extra = np.maximum(ahead, -z2, out=ahead)
    extra += np.log(total, out=total)
    share1, share2 = np.where(first, larger, small), np.where(first, small, larger)
    out = np.empty((len(logs), 6))
    out[:, 0], out[:, 1] = np.vecdot(weights, extra), share1.sum(axis=1)
    for column, share, z in ((2, share1, z1), (3, share2, z2)):
        np.subtract(1.0, z, out=z)
        z *= share
        out[:, column], out[:, column + 2] = z.sum(axis=1), np.vecdot(z, logs)
    return out


def powers(logs: Floats, k: Floats, shift: Floats) -> Floats:
    """Return (p/l)^k, with ``shift`` = k ln l."""
    z = k * logs
    z -= shift
    np.minimum(z, LARGEST, out=z)
    return np.exp(z, out=z)


def _likelihood(sums: Floats, totals: Floats, theta: Floats, lines: Floats) -> tuple[Floats, Floats]:
    w, k1, l1, k2, l2 = theta.T
    extra, share1, bent1, bent2, leant1, leant2 = sums.T
    count, logs = totals.T
    share2 = count - share1
    gradient = [share1 / w - share2 / (1 - w)]
    for k, scale, share, bent, leant in ((k1, l1, share1, bent1, leant1), (k2, l2, share2, bent2, leant2)):
        gradient += [share / k + leant - np.log(scale) * bent, -k / scale * bent]
    return -(count * lines[:, 1] + (k2 - 1) * logs + extra), -np.stack(gradient, axis=1)


def condense(values: Floats, sizes: Ints) -> tuple[Floats, Floats, Ints]:
    """Return points and weights that stand for the sorted values ln p of each problem, at most ``POINTS`` of them.

    Values are cut into groups of neighbours: bins of equal width in the sum of p's relative place between the smallest
    and the largest and of a function of its rank that is steep at both ends. So there are many groups where there are
    many values, and also in gaps and tails. Two points in each group have its mean, variance and skewness (the Gauss
    quadrature of its values), so that sums of anything smooth are kept to the fourth order of a group's width.

    Returns:
        Points and weights, problem by problem, and how many each problem has.
    """
    first = np.cumsum(sizes) - sizes
    p = np.exp(values)
    low, span = p[first], p[first + sizes - 1] - p[first]
    place = (p - np.repeat(low, sizes)) / np.repeat(np.where(span > 0, span, 1.0), sizes)
    rank = (np.arange(len(values)) - np.repeat(first, sizes) + 0.5) / np.repeat(sizes, sizes)
    place += (1 + np.sqrt(rank) - np.sqrt(1 - rank)) / 2
    group = (place * (POINTS / 4)).astype(np.int64)
    group += np.repeat(np.arange(len(sizes)) * POINTS, sizes)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    counts = np.diff(starts, append=len(values))
    mean = np.add.reduceat(values, starts) / counts
    apart = values - np.repeat(mean, counts)
    power = apart * apart
    deviation = np.sqrt(np.add.reduceat(power, starts) / counts)
    power *= apart
    third = np.add.reduceat(power, starts) / counts
    skew = np.divide(third, deviation**3, out=np.zeros_like(third), where=deviation > 0)
    root = np.sqrt(skew * skew + 4)
    points = mean[:, None] + deviation[:, None] * np.stack([(skew - root) / 2, (skew + root) / 2], axis=1)
    weights = counts[:, None] * np.stack([(root + skew) / (2 * root), (root - skew) / (2 * root)], axis=1)
    return points.ravel(), weights.ravel(), 2 * np.diff(np.searchsorted(starts, first), append=len(starts))


def fit(logs: Floats, sizes: Ints) -> tuple[Floats, Bools]:
    """Fit the mixture to each problem.

    Args:
        logs: ln p, problem by problem, sorted within each.
        sizes: how many values each problem has, shape [problems]; at least 1.

    Returns:
        w, k1, l1, k2, l2, shape [problems, 5], and whether the search succeeded, shape [problems].
    """
    theta, succeeded = np.tile(START, (len(sizes), 1)), np.zeros(len(sizes), dtype=np.bool_)
    few, many = np.flatnonzero(sizes <= MANY), np.flatnonzero(sizes > MANY)
    values = gather(logs, sizes, few)
    theta[few], succeeded[few] = _search(values, np.ones_like(values), sizes[few])
    if many.size:
        parts = [many[part] for part in split(sizes[many], BLOCK)]

        def reduce(part: Ints) -> tuple[Floats, Floats, Ints]:
            return condense(gather(logs, sizes, part), sizes[part])

        reduced = on_threads(reduce, parts)
        points, weights, counts = (np.concatenate(column) for column in zip(*reduced, strict=True))
        theta[many], succeeded[many] = _search(points, weights, counts)
    return theta, succeeded & np.isfinite(theta).all(axis=1)


def on_threads(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """Map over parts that are large enough for NumPy to leave Python alone most of the time."""
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        return list(pool.map(function, *arguments))


def sort(values: Floats, sizes: Ints) -> Floats:
    """Sort the values of each problem."""
    values, ends = values.copy(), np.cumsum(sizes)

    def one(part: Ints) -> None:
        for end, size in zip(ends[part].tolist(), sizes[part].tolist(), strict=True):
            values[end - size : end].sort()

    on_threads(one, split(sizes, BLOCK))
    return values


def split(sizes: Ints, most: int) -> list[Ints]:
    """Return the numbers of the problems in parts of about ``most`` values each."""
    part = np.cumsum(sizes) // most
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(part)) + 1)


def gather(values: Floats, sizes: Ints, problems: Ints) -> Floats:
    """Return the values of some problems, in their order."""
    if len(problems) == len(sizes) and (np.diff(problems) == 1).all():
        return values
    starts, wanted = (np.cumsum(sizes) - sizes)[problems], sizes[problems]
    return values[np.repeat(starts - np.cumsum(wanted) + wanted, wanted) + np.arange(int(wanted.sum()))]


def _search(values: Floats, weights: Floats, sizes: Ints) -> tuple[Floats, Bools]:
    """Go the road from ``START``, together; problems of about the same size share a table.

    A table's width depends on its problems' sizes alone, so that no problem's sums depend on what else there is.
    """
    theta, succeeded = np.tile(START, (len(sizes), 1)), np.zeros(len(sizes), dtype=np.bool_)
    widths = 2 ** np.ceil(np.log2(np.maximum(sizes, 8))).astype(np.int64)
    for part in split(widths + POINTS, BATCH):
        tables: list[Table] = []
        which, place = np.zeros(len(part), dtype=np.int64), np.zeros(len(part), dtype=np.int64)
        for number, width in enumerate(np.unique(widths[part]).tolist()):
            alike = np.flatnonzero(widths[part] == width)
            which[alike], place[alike], some = number, np.arange(len(alike)), part[alike]
            tables.append(Table.pack(gather(values, sizes, some), gather(weights, sizes, some), sizes[some], width))
        evaluate = partial(_evaluate, tables, which, place)
        theta[part], succeeded[part] = minimize(evaluate, theta[part], np.array(LOWER), np.array(UPPER))
    return theta, succeeded


def _evaluate(tables: list[Table], which: Ints, place: Ints, theta: Floats, problems: Ints) -> tuple[Floats, Floats]:
    """Evaluate problems, each at its place in one of the tables."""
    value, gradient = np.empty(len(theta)), np.empty_like(theta)
    for number, table in enumerate(tables):
        here = np.flatnonzero(which[problems] == number)
        if here.size:
            value[here], gradient[here] = table.evaluate(theta[here], place[problems[here]])
    return value, gradient
