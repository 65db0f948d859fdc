"""Policies that only count: the same for every problem, or until enough samples of it were accepted."""

from __future__ import annotations

from operators.policies.policy import Floats, Ints, Policy, Setting
from schemas.later import np


class Uniform(Policy):
    """The same number of samples for every problem; whoever has the fewest is next."""

    def values(self, problems: Ints) -> Floats:
        return -(self.counts.drawn[problems] + self.counts.pending[problems]).astype(np.float64)


class UntilCorrect(Uniform):
    """Until ``target`` samples of a problem were accepted; whoever has the fewest samples is next.

    With target 1 this is resampling until the first success (Brown et al. 2024, "Large Language Monkeys"), in an order
    that leaves no problem behind.
    """

    def __init__(self, setting: Setting, target: int = 1) -> None:
        super().__init__(setting)
        self.target = target

    def values(self, problems: Ints) -> Floats:
        return np.where(self.counts.correct[problems] < self.target, super().values(problems), -np.inf)
