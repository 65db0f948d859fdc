"""Resampling with an imperfect verifier: what the K-th try is worth, and when to stop.

Stroebl, Kapoor and Narayanan 2024, "Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers".
Samples are drawn until the verifier accepts one, K at most. A task of type t, with prior p_t and success rate r_t,
gives a draw that is right and accepted (c r_t, c: completeness), wrong and accepted ((1 - r_t)(1 - s), s: soundness),
or rejected: beta_t = (1 - c) r_t + s (1 - r_t).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.later import Floats, np


@dataclass(frozen=True)
class Tasks:
    """Kinds of tasks, and the verifier they are given to.

    Attributes:
        prior: p_t, shape [types]; sums to 1.
        success: r_t, shape [types], in [0, 1].
        completeness: P(accepted | right).
        soundness: P(rejected | wrong).
    """

    prior: Floats
    success: Floats
    completeness: float
    soundness: float

    @property
    def accepted_right(self) -> Floats:
        """P(a draw is right and accepted), shape [types]."""
        return self.completeness * self.success

    @property
    def accepted_wrong(self) -> Floats:
        """P(a draw is wrong and accepted), shape [types]."""
        return (1 - self.success) * (1 - self.soundness)

    @property
    def rejected(self) -> Floats:
        """beta_t, shape [types]."""
        return (1 - self.completeness) * self.success + self.soundness * (1 - self.success)


def tasks(prior: Any, success: Any, completeness: float, soundness: float) -> Tasks:
    """Return ``Tasks`` from anything that NumPy takes."""
    weights = np.asarray(prior, dtype=np.float64)
    return Tasks(weights / weights.sum(), np.asarray(success, dtype=np.float64), completeness, soundness)


def reward(given: Tasks, most: int, value_correct: float, value_wrong: float) -> Floats:
    """Return R(K) for K = 0..most, shape [most + 1]: the expected value of drawing until acceptance, K times at most.

    R(K) = sum_{k<=K} sum_t p_t beta_t^{k-1} [V_c c r_t + V_f (1 - r_t)(1 - s)]; R(0) = 0.
    """
    gain = given.prior * (value_correct * given.accepted_right + value_wrong * given.accepted_wrong)
    each = given.rejected[None, :] ** np.arange(most)[:, None] @ gain
    return np.concatenate([[0.0], np.cumsum(each)])


def best_tries(given: Tasks, value_correct: float, value_wrong: float, most: int = 10_000) -> tuple[int, float]:
    """Return (K*, R(K*)): the number of tries with the largest expected value; 0 where none is positive."""
    curve = reward(given, most, value_correct, value_wrong)
    best = int(np.argmax(curve))
    return best, float(curve[best])


def ceiling(given: Tasks) -> float:
    """Return P(right | accepted) when samples are drawn until one is accepted, however long that takes.

    Tasks that are never accepted aren't counted; with draws from one type, this is c r / (c r + (1 - r)(1 - s)).
    """
    accepted = given.accepted_right + given.accepted_wrong
    some = accepted > 0
    if not some.any():
        return float("nan")
    return float(np.average(given.accepted_right[some] / accepted[some], weights=given.prior[some]))
