"""The default under a budget: samples go where one more is expected to gain most for its cost."""

from __future__ import annotations

from operators.measure.difficulty import Difficulty, grid
from operators.policies.policy import Floats, Ints, Outcomes, Policy, Setting
from schemas.later import np, special


class Marginal(Policy):
    """Serve problems in order of the expected gain of one more sample over its cost.

    A gain is one more accepted sample of a problem that has fewer than ``target``: 1 is coverage, more is training data
    (T useful traces per problem). Its probability is the mean over the problem's distribution of rates
    (``operators.measure.difficulty``) of p P(what is pending leaves it wanted | p). The fewer successes a problem had
    in the more samples, the less likely is the next, so serving the largest gain first is optimal where rates are
    independent (a decreasing index: Gittins 1979). The price of the last sample served is the shadow price: the
    money ends where the value per dollar of all problems has fallen to it.

    Without hints a problem's posterior depends on its counts alone, so among the unsolved ones whoever has the fewest
    samples is next: with ``target`` 1 and equal costs that is ``until_correct`` to the sample. What it gains over that
    comes from ``before``.

    Problems stop where a sample is worth less than ``least``.
    """

    def __init__(self, setting: Setting, target: int = 1, least: float = 0.0) -> None:
        super().__init__(setting)
        self.target, self.least = target, least
        self.difficulty = Difficulty(len(setting.most), *setting.known)
        self._samples = 0

    def learn(self, outcomes: Outcomes) -> bool:
        counts = self.counts
        self._samples += len(outcomes.problems)
        if not self.difficulty.due(self._samples):
            return False
        self.difficulty.fit(counts.drawn, counts.correct)
        return True

    def values(self, problems: Ints) -> Floats:
        counts, found = self.counts, np.full(len(problems), -np.inf)
        wanted = np.flatnonzero(counts.correct[problems] < self.target)
        for start in range(0, len(wanted), 8_192):
            rows = wanted[start : start + 8_192]
            some = problems[rows]
            gain = self._gain(some) / self.setting.cost[some]
            found[rows] = np.where(gain >= self.least, gain, -np.inf)
        return found

    def _gain(self, problems: Ints) -> Floats:
        counts = self.counts
        drawn, correct, pending = (column[problems] for column in (counts.drawn, counts.correct, counts.pending))
        posterior = self.difficulty.posterior(drawn, correct, problems)
        waiting = pending > 0
        if waiting.any():
            lacking = (self.target - 1 - correct[waiting])[:, None]
            few = special.bdtr(np.minimum(lacking, pending[waiting, None]), pending[waiting, None], grid.RATES)
            posterior[waiting] *= few
        return posterior @ grid.RATES
