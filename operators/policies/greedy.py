"""The plain way, for comparison: whoever succeeded most often so far is next."""

from __future__ import annotations

from operators.measure.difficulty import Difficulty, grid
from operators.policies.policy import Floats, Ints, Outcomes, Policy, Setting
from schemas.later import np

BLOCK = 8_192
"""Problems whose distributions are held at once."""


class Greedy(Policy):
    """Serve the largest mean of a beta posterior first, until ``target`` samples were accepted.

    Each problem's prior Beta(a, b) has the mean and the variance of what others' counts, and whatever is known
    beforehand, say about its rate (``operators.measure.difficulty``): it is the same for all where nothing is known.
    What is pending counts as rejected.

    Attributes:
        prior: a and b of each problem, shape [2, problems].
    """

    def __init__(self, setting: Setting, target: int = 1) -> None:
        super().__init__(setting)
        self.target = target
        self.difficulty = Difficulty(len(setting.most), *setting.known)
        self.prior = matching(self.difficulty, len(setting.most))
        self._samples = 0

    def learn(self, outcomes: Outcomes) -> bool:
        self._samples += len(outcomes.problems)
        if not self.difficulty.due(self._samples):
            return False
        self.difficulty.fit(self.counts.drawn, self.counts.correct)
        self.prior = matching(self.difficulty, len(self.setting.most))
        return True

    def values(self, problems: Ints) -> Floats:
        counts, (a, b) = self.counts, self.prior[:, problems]
        committed = counts.drawn[problems] + counts.pending[problems]
        mean = (a + counts.correct[problems]) / (a + b + committed) / self.setting.cost[problems]
        return np.where(counts.correct[problems] < self.target, mean, -np.inf)


def matching(difficulty: Difficulty, problems: int) -> Floats:
    """Return a and b of the betas that have the means and variances of the rates' distributions: [2, problems]."""
    told = problems if difficulty.trust > 0.0 else min(1, problems)  # where nothing is, all are the same
    found = np.empty((2, told))
    for start in range(0, told, BLOCK):
        some = np.arange(start, min(start + BLOCK, told))
        none = np.zeros(len(some), dtype=np.int64)
        shares = difficulty.posterior(none, none, some)
        mean = shares @ grid.RATES
        variance = np.maximum(shares @ grid.RATES**2 - mean**2, 1e-12)
        worth = np.maximum(mean * (1.0 - mean) / variance - 1.0, 1e-3)  # samples that the prior counts for
        found[:, some] = mean * worth, (1.0 - mean) * worth
    return found if told == problems else np.repeat(found, problems, axis=1)
