"""Pruning by confidence: leave out the traces whose tokens the model was least sure of."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from schemas.datasets import SAMPLE_KEY, Path, Sample
from schemas.later import pl

PRUNED = "unsure: below the confidence that is kept"
UNKNOWN = "no confidence"
COLUMNS = {
    "lowest": "lowest_group_confidence",
    "bottom": "bottom_group_confidence",
    "tail": "tail_confidence",
    "mean": "mean_confidence",
}


class PruneConfidence(Operator):
    """Keep the most confident share of each problem's traces (DeepConf offline: Fu et al. 2025).

    A trace's confidence is that of its lowest group of tokens, the mean of the lowest tenth of its groups, that of its
    last group, or the mean of all tokens (``operators.confidence``). A trace is kept where it reaches the problem's
    quantile 1 - ``keep``; so at least one always is, and all that are equal are. ``weight`` is the confidence of a
    trace that is kept (vote with it: ``select.weighted``), 0 of a pruned one. A sample without confidence is kept, with
    the mean weight of its problem's others (1 where there is none). Failed samples (status ``error``) aren't traces and
    get no row.

    The same thresholds can cut traces while they are written: ``sample.cut``.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {"samples": Sample.select("problem_key", "sample_index", "problem_id", "status", *COLUMNS.values())}
    output = Path

    by: Literal["lowest", "bottom", "tail", "mean"] = "lowest"
    """Whose confidence counts: the lowest group's, the mean of the lowest tenth of groups, the last group's, or the
    mean of all tokens."""
    keep: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of the traces; DeepConf's choices are 0.1 and 0.9."""

    def run(self, samples: pl.DataFrame) -> pl.DataFrame:
        """Return one row per sample that didn't fail, sorted by problem_key and sample_index."""
        confidence = pl.col(COLUMNS[self.by]).cast(pl.Float64)
        traces = samples.filter(pl.col("status") == "ok").select(
            *SAMPLE_KEY,
            "problem_id",
            confidence=pl.when(confidence.is_finite()).then(pl.max_horizontal(confidence, pl.lit(0.0))),
        )
        known = pl.col("confidence")
        threshold = known.quantile(1.0 - self.keep, interpolation="linear").over("problem_key")
        traces = traces.with_columns(kept=(known >= threshold).fill_null(True))
        mean = known.filter("kept").mean().over("problem_key").fill_null(1.0)
        return traces.select(
            *SAMPLE_KEY,
            "problem_id",
            pl.when("kept").then(pl.coalesce(known, mean)).otherwise(0.0).alias("weight"),
            "kept",
            pl.when(known.is_null()).then(pl.lit(UNKNOWN)).when(~pl.col("kept")).then(pl.lit(PRUNED)).alias("reason"),
        ).sort(*SAMPLE_KEY)
