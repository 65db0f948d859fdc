"""Operators that leave training rows out for what the whole set looks like: near-duplicates, contamination, quotas.

They see the whole dataset and return decisions, not texts: one row for each row of ``sft``, with the reason where it
is left out. Decisions add up: given earlier ``paths``, what these dropped stays dropped, for the reason it was dropped
for, and takes no part in what is decided next. The last of them tells what ``export`` writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from operators.base import Operator
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Path, Sft
from schemas.later import pl

BATCH = 20_000
"""Rows whose texts are in memory at once."""


class Sifting(Operator):
    """Base of operators that choose among training rows; define ``reasons``."""

    scope = "dataset"
    inputs = {
        "sft": Sft.select("problem_key", "sample_index", "problem_id", "messages", "completion_tokens", "score"),
        "paths": Path.select("problem_key", "sample_index", "kept", "reason"),
    }
    optional: ClassVar[frozenset[str]] = frozenset({"paths"})
    output = Path

    def run(self, sft: pl.LazyFrame, paths: pl.LazyFrame | None = None, **others: pl.LazyFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return one row for each of ``sft``'s: kept, or the reason why not."""
        rows = sft.select(*SAMPLE_KEY, "problem_id").collect()
        dropped = rows.head(0).with_columns(reason=pl.lit(None, pl.String))
        if paths is not None:
            before = paths.filter(~pl.col("kept")).select(*SAMPLE_KEY, pl.col("reason").fill_null("dropped"))
            dropped = rows.join(before.collect(), on=SAMPLE_KEY)
            sft = sft.join(before.select(SAMPLE_KEY), on=SAMPLE_KEY, how="anti", maintain_order="left")
        found = self.reasons(sft, **others).select(*SAMPLE_KEY, "reason")
        reasons = pl.concat([dropped.select(*SAMPLE_KEY, "reason"), found])
        table = rows.join(reasons, on=SAMPLE_KEY, how="left", maintain_order="left")
        kept = pl.col("reason").is_null()
        table = table.with_columns(weight=kept.cast(pl.Float64), kept=kept).sort(SAMPLE_KEY)
        return table.select(list(polars_schema(Path)))

    def reasons(self, sft: pl.LazyFrame, **others: pl.LazyFrame) -> pl.DataFrame:
        """Return ``problem_key, sample_index, reason`` of the rows to leave out."""
        raise TypeError(f"{type(self).__name__} doesn't define reasons()")


def batches(rows: pl.LazyFrame, size: int = BATCH) -> Iterator[pl.DataFrame]:
    """Yield rows a batch at a time, always in the same order."""
    found: Any = rows.collect_batches(chunk_size=size, maintain_order=True, lazy=True)
    yield from found
