"""Votes of episodes: each gives the answer that it chose, and the episodes of a problem vote."""

from __future__ import annotations

from typing import ClassVar, Literal

from operators.draws import draws
from operators.select.classes import one_verifier
from operators.select.selection import SCORES, VERDICTS, Voting, refuse_negative
from schemas.datasets import Verdict
from schemas.errors import BadInput
from schemas.later import pl


class SelectEpisode(Voting):
    """Pick one answer of what a problem's episodes chose.

    Rows of one episode aren't independent: copies among them would outvote the rest. Samples of no episode vote as
    episodes of one row.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": Verdict.select(*VERDICTS.names, "chosen"), "scores": SCORES}
    optional = frozenset({"scores"})

    by: Literal["majority", "best", "weighted"] = "majority"
    """The answer of most episodes, of the one with the best score, or with the largest sum of scores."""
    scorer: str = "search"
    """Whose scores (``score.search`` gives the strategy's own)."""

    @property
    def largest(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.by == "best"

    @property
    def exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.by == "majority"

    def run(self, verdicts: pl.DataFrame, scores: pl.DataFrame | None = None) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row per problem.

        Raises:
            BadInput: scores are asked for, and there are none by that scorer; or negative ones.
        """
        chosen = draws(one_verifier(verdicts)).drop("chosen", strict=False)
        if self.by == "majority":
            return super().run(chosen)
        mine = None if scores is None else scores.filter(pl.col("scorer") == self.scorer)
        if mine is None or mine.is_empty():
            raise BadInput(
                f"select.episode by={self.by} needs 'scores' by '{self.scorer}': connect a stage score.search"
            )
        return super().run(chosen, scores=mine)

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        if self.by == "majority":
            return pl.lit(1.0)
        score = pl.when(pl.col("score").is_finite()).then(pl.col("score"))
        if self.by == "weighted":
            refuse_negative(ballots, score, "select.episode", "Use by = best")
        return score
