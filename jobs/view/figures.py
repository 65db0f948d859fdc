"""Figures that grow with a run: coverage and the accuracy of a vote with their intervals, answers' entropy, speed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.view.index import JUDGED, Index
from jobs.view.slots import Places
from operators.measure.intervals import new_problems
from operators.measure.pass_at_k import estimate, powers_of_two

DRAWS = 400
"""Of the bootstrap; a live figure need not be finer."""
MANY = 5_000
"""From so many problems on, intervals are those of a normal mean."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def coverage(n: Ints, c: Ints) -> list[dict[str, Any]]:
    """Return pass@k with 95% intervals for problems like these, at powers of two that all judged problems reach.

    Args:
        n, c: judged and right samples of each problem; problems without any are left out.
    """
    there = n > 0
    n, c = n[there], c[there]
    if not len(n):
        return []
    k = np.array(powers_of_two(int(n.min())), dtype=np.int64)
    each = estimate(n, c, k)
    means, low, high = _mean(each)
    return [
        {"k": int(k[at]), "coverage": float(means[at]), "low": float(low[at]), "high": float(high[at])}
        for at in range(len(k))
    ]


class Answers:
    """What the answers of each problem come to.

    Attributes:
        entropy: of the answers' shares, in bits; NaN where there are none.
        majority: 1 where the most frequent answer is right, 0 where it is wrong, NaN where nobody knows.
        top: the share of the most frequent one.
        distinct: how many there are.
    """

    def __init__(self, index: Index, places: Places) -> None:
        count = len(places.keys)
        self.entropy = np.full(count, np.nan)
        self.majority = np.full(count, np.nan)
        self.top = np.full(count, np.nan)
        self.distinct = np.zeros(count, np.int64)
        first = 0
        while first < count:
            behind = int(np.searchsorted(places.starts, places.starts[first] + (1 << 20), side="right")) - 1
            end = min(count, max(first + 1, behind))
            self._some(index, places, first, end)
            first = end

    def _some(self, index: Index, places: Places, first: int, end: int) -> None:
        low, high = int(places.starts[first]), int(places.starts[end])
        answer, verdict = index.read("answer", low, high), index.read("verdict", low, high)
        sizes = np.diff(places.starts[first : end + 1])
        problem = np.repeat(np.arange(end - first), sizes)
        said = answer > 0
        if not said.any():
            return
        pairs = (problem[said].astype(np.uint64) << np.uint64(32)) | answer[said].astype(np.uint64)
        judged = verdict[said]
        groups, place, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        right = np.bincount(place, judged == 1, minlength=len(groups)) > 0
        known = np.bincount(place, (judged > 0) & (judged < JUDGED), minlength=len(groups)) > 0
        owner = (groups >> np.uint64(32)).astype(np.int64)
        total = np.bincount(owner, counts, minlength=end - first)
        share = counts / total[owner]
        bits = np.bincount(owner, -share * np.log2(share), minlength=end - first)
        there = total > 0
        self.entropy[first:end][there] = bits[there]
        self.distinct[first:end] = np.bincount(owner, minlength=end - first)
        order = np.lexsort((counts, owner))  # the largest of each problem comes last
        last = order[np.append(owner[order][1:] != owner[order][:-1], True)]
        self.top[first:end][owner[last]] = share[last]
        self.majority[first:end][owner[last]] = np.where(known[last], right[last], np.nan)


def accuracy(answers: Answers) -> dict[str, float | int] | None:
    """Return how often the most frequent answer is right, with its 95% interval for problems like these."""
    known = answers.majority[~np.isnan(answers.majority)]
    if not len(known):
        return None
    mean, low, high = _mean(known[:, None])
    return {"accuracy": float(mean[0]), "low": float(low[0]), "high": float(high[0]), "problems": len(known)}


def _mean(each: Floats) -> tuple[Floats, Floats, Floats]:
    """Return means over problems and their 95% intervals, for problems like these."""
    mean = each.mean(axis=0)
    if len(each) <= MANY:
        return mean, *new_problems(each, each, DRAWS, 0)
    half = 1.959964 * each.std(axis=0) / np.sqrt(len(each))  # of so many, the bootstrap says the same
    return mean, np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)


def wilson(right: Floats | Ints, n: Floats | Ints) -> tuple[Floats, Floats]:
    """Return the 95% interval of rates (Wilson); NaN where n is 0."""
    z = 1.959964
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = right / n
        centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return centre - half, centre + half
