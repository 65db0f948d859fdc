"""Thresholdout: a holdout set that can be asked many questions, each chosen by the answers to those before.

Dwork, Feldman, Hardt, Pitassi, Reingold and Roth 2015, "Generalization in Adaptive Data Analysis and Holdout Reuse",
figure 1 (and "Preserving Statistical Validity in Adaptive Data Analysis", of the same year). A question is a number in
[0, 1] for each problem; what is asked for is its mean over problems like these. With T^ = T + Lap(2s):

    |mean on the holdout - mean on the tuning part| > T^ + Lap(4s):  the answer is the holdout's mean + Lap(s); one unit
                                                                      of the budget is spent, and T^ is drawn anew
    else:                                                             the answer is the tuning part's mean

As long as the tuning part tells the truth the holdout gives away one bit that says so, and it can go on for ever. T and
s are theorem 25's for a tolerance t: T = 3t/4, s = t / (96 ln(4m/b)) for m questions and a risk b.

That theorem asks for more problems than people have, and its constants aren't known. What the answers are good for at
any n is said by counting instead (the same paper's section on description length): answers that are multiples of a
grid, at most B of them the holdout's, are one of at most  sum_{j <= B} C(m, j) L^j  series of answers, L being the
grid's points. Given one of these the questions are fixed, so Hoeffding's inequality holds for each, and for all
together with the sum of the risks. ``bound`` is this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.later import np

GRID = 8
"""Answers from the holdout are multiples of so small a part of the tolerance."""

Status = Literal["holds", "differs", "budget spent"]


class Told(NamedTuple):
    """An answer: the tuning part's mean (``holds``), the holdout's with noise (``differs``), or none."""

    value: float | None
    status: Status


@dataclass(frozen=True)
class Thresholdout:
    """What a holdout may be asked, and how exactly it answers.

    Attributes:
        tolerance: t, on the scale of the questions, [0, 1].
        budget: B, how many answers may come from the holdout itself.
        questions: m, how many are asked altogether.
        risk: b, the chance that some answer is off by more than ``bound``.
        seed: of the noise.
    """

    tolerance: float = 0.08
    budget: int = 10
    questions: int = 1000
    risk: float = 0.05
    seed: int = 0

    @property
    def threshold(self) -> float:
        """T."""
        return 0.75 * self.tolerance

    @property
    def noise(self) -> float:
        """s, the scale of Laplace's noise."""
        return self.tolerance / (96.0 * math.log(4.0 * self.questions / self.risk))

    def ask(self, tuning: float, holdout: float, asked: int, spent: int) -> Told:
        """Answer a question.

        Args:
            tuning, holdout: its means on the two parts.
            asked: how many questions were asked before.
            spent: how many of these were answered from the holdout.
        """
        if spent >= self.budget or asked >= self.questions:
            return Told(None, "budget spent")
        raised = np.random.default_rng([self.seed, 0, spent]).laplace(0.0, 2.0 * self.noise)
        rng = np.random.default_rng([self.seed, 1, asked])
        if abs(holdout - tuning) <= self.threshold + raised + rng.laplace(0.0, 4.0 * self.noise):
            return Told(tuning, "holds")
        grid = self.tolerance / GRID
        value = round((holdout + rng.laplace(0.0, self.noise)) / grid) * grid
        return Told(min(1.0, max(0.0, value)), "differs")

    def bound(self, problems: int) -> float:
        """Return how far all answers together are off at most, but for the risk, if so many problems are held out."""
        points = math.log(math.floor(GRID / self.tolerance) + 2.0)
        series = [
            math.lgamma(self.questions + 1) - math.lgamma(j + 1) - math.lgamma(self.questions - j + 1) + j * points
            for j in range(min(self.budget, self.questions) + 1)
        ]
        top = max(series)
        described = top + math.log(sum(math.exp(one - top) for one in series))
        chance = math.sqrt((described + math.log(4.0 * self.questions / self.risk)) / (2.0 * problems))
        largest = math.log(2.0 * (self.questions + 2 * self.budget + 1) / self.risk) * self.noise
        return chance + max(self.threshold + 6.0 * largest, largest + 0.5 * self.tolerance / GRID)
