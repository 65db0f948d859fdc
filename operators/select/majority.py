"""Majority vote, or self-consistency: the answer that most samples of a problem agree on."""

from __future__ import annotations

from typing import ClassVar

from operators.select.selection import Voting
from schemas.later import pl


class MajorityVote(Voting):
    """Pick the most frequent answer of each problem (Wang et al. 2023, "Self-Consistency").

    Every sample weighs the same. Confidence is votes/n, where n is the number of samples whose verdict is neither
    ``error`` nor ``skipped``.
    """

    version: ClassVar[int] = 1
    exact = True

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        return pl.lit(1.0)
