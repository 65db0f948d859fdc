"""The plain empirical-Bayes greedy: what ``Marginal`` has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize as _optimize  # pyright: ignore[reportMissingTypeStubs]
from scipy import special as _special  # pyright: ignore[reportMissingTypeStubs]

from operators.measure.difficulty import FIRST, GROWTH
from operators.policies.policy import Floats, Ints, Outcomes, Policy, Setting

optimize: Any = _optimize  # they ship no types
special: Any = _special


class Greedy(Policy):
    """Serve the largest mean of a beta posterior first, until ``target`` samples were accepted.

    The prior Beta(a, b) is fitted to all counts by maximum likelihood (beta-binomial), as often as ``Marginal`` fits.
    """

    def __init__(self, setting: Setting, target: int = 1) -> None:
        super().__init__(setting)
        self.target = target
        self.prior: Floats = np.array([0.3, 10.0])
        self._samples = self._fitted = 0

    def learn(self, outcomes: Outcomes) -> bool:
        self._samples += len(outcomes.problems)
        if self._samples < max(self._fitted + FIRST, GROWTH * self._fitted):
            return False
        self._fitted = self._samples
        correct, wrong = self.counts.correct, self.counts.drawn - self.counts.correct

        def loss(logs: Floats) -> float:
            a, b = np.exp(logs)
            return -float((special.betaln(a + correct, b + wrong) - special.betaln(a, b)).sum())

        self.prior = np.exp(optimize.minimize(loss, np.log(self.prior), method="Nelder-Mead").x)
        return True

    def values(self, problems: Ints) -> Floats:
        counts, (a, b) = self.counts, self.prior
        committed = counts.drawn[problems] + counts.pending[problems]
        mean = (a + counts.correct[problems]) / (a + b + committed) / self.setting.cost[problems]
        return np.where(counts.correct[problems] < self.target, mean, -np.inf)
