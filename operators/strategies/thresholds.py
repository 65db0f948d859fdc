"""Thresholds of a cascade: the cheapest one that keeps a wanted accuracy, by what is known of a calibration set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import BadInput
from schemas.later import np, special


@dataclass(frozen=True)
class Step:
    """One threshold that was looked at.

    Attributes:
        threshold: answers with this value or more are accepted.
        accepted: how many are.
        right: of these.
        low: lower bound of how likely an accepted answer is right.
        passed: whether it, and every stricter one, keeps the wanted accuracy.
    """

    threshold: float
    accepted: int
    right: int
    low: float
    passed: bool


def steps(values: Sequence[float], right: Sequence[bool], wanted: float, sure: float = 0.95) -> list[Step]:
    """Return all thresholds that could pass, the strictest first; the cheapest is the last one that ``passed``.

    They are tried from the strictest that could pass at all down to the first that fails (Bauer 1991; Angelopoulos et
    al. 2021, fixed sequence testing), each by the exact lower bound of Clopper and Pearson. So with probability
    ``sure`` the accuracy of what is accepted later, on problems like these, is ``wanted`` or more. What comes after the
    first that fails is told for the eye alone.

    Args:
        values: of the small model's answers, one of each problem (rows of one problem aren't independent).
        right: whether each of them is right.

    Raises:
        BadInput: a value that is no number, or shares that aren't between 0 and 1.
    """
    if len(values) != len(right):
        raise BadInput(f"thresholds: {len(values)} values and {len(right)} verdicts")
    if not 0.0 < wanted < 1.0 or not 0.0 < sure < 1.0:
        raise BadInput("thresholds: the wanted accuracy, and how sure it shall be, are between 0 and 1")
    value = np.asarray(values, dtype=np.float64)
    if not np.isfinite(value).all():
        raise BadInput("thresholds: a value is no finite number")
    least = least_answers(wanted, sure)
    order = np.argsort(-value, kind="stable")
    sums = np.cumsum(np.asarray(right, dtype=np.int64)[order])
    last = np.flatnonzero(np.diff(value[order], append=np.nan) != 0)  # equal values are accepted together
    found: list[Step] = []
    passed = True
    for place in last[last + 1 >= least].tolist():
        count, correct = place + 1, int(sums[place])
        low = lower_bound(correct, count, sure)
        passed = passed and low >= wanted
        found.append(Step(float(value[order[place]]), count, correct, low, passed))
    return found


def cheapest(values: Sequence[float], right: Sequence[bool], wanted: float, sure: float = 0.95) -> float | None:
    """Return the lowest threshold at which accepted answers are right with probability ``wanted``, or None."""
    passed = [one.threshold for one in steps(values, right, wanted, sure) if one.passed]
    return passed[-1] if passed else None


def least_answers(wanted: float, sure: float = 0.95) -> int:
    """Return how many accepted answers it takes at least: fewer can't pass, even if all are right."""
    return math.ceil(math.log(1.0 - sure) / math.log(wanted) - 1e-9)


def lower_bound(successes: int, count: int, sure: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a share (Clopper and Pearson 1934)."""
    if successes == 0:
        return 0.0
    return float(special.betaincinv(successes, count - successes + 1, 1.0 - sure))
