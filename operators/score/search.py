"""What a strategy's own scorer said of its texts, as scores."""

from __future__ import annotations

from typing import ClassVar

from operators.base import Operator
from schemas.contract import complete
from schemas.datasets import EPISODE, Sample, Score
from schemas.later import pl


class ScoreSearch(Operator):
    """Copy ``search_score`` of samples to scores by the scorer ``search``; no engine is asked.

    A search picks what its scorer likes, so these scores of its own finals are too high: good for votes, no measure.
    """

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {
        "samples": Sample.select(
            "problem_key", "sample_index", "problem_id", "status", "search_score", *sorted(EPISODE)
        ),
    }
    output = Score

    scorer: str = "search"
    """Name in the ``scorer`` column."""

    def run(self, samples: pl.DataFrame) -> pl.DataFrame:
        failed, unscored = pl.col("status") != "ok", pl.col("search_score").is_null()
        status = pl.when(failed).then(pl.lit("skipped")).when(unscored).then(pl.lit("error")).otherwise(pl.lit("ok"))
        rows = samples.with_columns(
            scorer=pl.lit(self.scorer),
            score=pl.when(~failed).then("search_score"),
            step_scores=pl.lit(None, pl.List(pl.Float32)),
            status=status,
            detail=pl.when(~failed & unscored).then(pl.lit("the strategy gave it no score")),
        )
        return complete(rows, Score)
