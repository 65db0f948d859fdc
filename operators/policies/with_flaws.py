"""Resampling with a verifier that errs: an accepted sample is worth what it is worth, and stopping early can pay."""

from __future__ import annotations

from operators.measure.difficulty import Difficulty, grid
from operators.measure.flaws import best_tries, tasks
from operators.policies.policy import Floats, Ints, Outcomes, Policy, Setting
from schemas.later import np


class WithFlaws(Policy):
    """Draw until one sample is accepted, as long as the next is worth more than it costs.

    A sample that is right and accepted is worth V_c, one that is wrong and accepted V_f < 0 (Stroebl, Kapoor and
    Narayanan 2024, "Inference Scaling fLaws"). With completeness c and soundness s, a problem whose rate is r gives
    V_c c r + V_f (1 - r)(1 - s) by a draw. After k - 1 rejections r is more likely to be low, so what the next draw is
    worth falls, and where it is not positive the problem stops. Where types and rates are known that is after K* draws
    (``operators.measure.flaws.best_tries``).

    Args:
        types: p_t and r_t of each type of problem, shape [types, 2]; None learns the distribution of rates from the
            acceptances so far (``operators.measure.difficulty``), corrected for the verifier's errors.
    """

    def __init__(
        self,
        setting: Setting,
        completeness: float = 1.0,
        soundness: float = 1.0,
        value_correct: float = 1.0,
        value_wrong: float = -1.0,
        types: Floats | None = None,
    ) -> None:
        super().__init__(setting)
        self.completeness, self.soundness = completeness, soundness
        self.value_correct, self.value_wrong = value_correct, value_wrong
        self.types = types
        self.tries: int | None = None
        """K*, where the types are known."""
        if types is not None:
            known = tasks(types[:, 0], types[:, 1], completeness, soundness)
            self.tries = best_tries(known, value_correct, value_wrong)[0]
        self.difficulty = None if types is not None else Difficulty(len(setting.most), *setting.known)
        self._samples = 0

    def learn(self, outcomes: Outcomes) -> bool:
        counts = self.counts
        self._samples += len(outcomes.problems)
        if self.difficulty is None or not self.difficulty.due(self._samples):
            return False
        self.difficulty.fit(counts.drawn, counts.correct)
        return True

    def size(self, problem: int) -> int:
        return 1

    def values(self, problems: Ints) -> Floats:
        rates, shares = self._posterior(problems)
        right = self.completeness * rates
        wrong = (1.0 - rates) * (1.0 - self.soundness)
        worth = shares @ (self.value_correct * right + self.value_wrong * wrong)
        tried = self.counts.drawn[problems] + self.counts.pending[problems]
        pays = worth > 0 if self.tries is None else tried < self.tries
        live = (self.counts.correct[problems] == 0) & pays
        return np.where(live, worth / self.setting.cost[problems], -np.inf)

    def _posterior(self, problems: Ints) -> tuple[Floats, Floats]:
        """Return rates of being right, shape [rates], and their probabilities after so many rejections."""
        rejected = self.counts.drawn[problems] - self.counts.correct[problems] + self.counts.pending[problems]
        if self.types is not None:
            prior, rates = self.types.T
            beta = (1.0 - self.completeness) * rates + self.soundness * (1.0 - rates)
            shares = prior * beta ** rejected[:, None]
            return rates, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
        assert self.difficulty is not None
        shares = self.difficulty.posterior(rejected, np.zeros_like(rejected), problems)
        # the grid is of acceptance: a = c r + (1 - r)(1 - s)
        span = self.completeness - (1.0 - self.soundness)
        rates = (
            np.clip((grid.RATES - (1.0 - self.soundness)) / span, 0.0, 1.0) if span > 0 else np.zeros_like(grid.RATES)
        )
        return rates, shares
