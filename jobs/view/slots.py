"""Where each sample of a view has its place: views are ranges of indices of problems, laid one behind the other."""

from __future__ import annotations

import numpy as np
import polars as pl

from jobs.view.index import Slots


class Places:
    """The places of a view's samples: in order of the problems' keys, then of the samples' indices.

    Attributes:
        keys: of the problems, sorted.
        starts: the first place of each problem, and behind the last one the number of places.
    """

    def __init__(self, ranges: pl.DataFrame) -> None:
        """Args:
        ranges: problem_key, first, count: disjoint.
        """
        table = ranges.filter(pl.col("count") > 0).sort("problem_key", "first")
        self.keys = table["problem_key"].unique(maintain_order=True)
        counts = table["count"].to_numpy().astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._firsts = table["first"].to_numpy().astype(np.int64)
        opens = (table["problem_key"] != table["problem_key"].shift()).fill_null(True).to_numpy()
        self.starts = np.append(self._starts[:-1][opens], self._starts[-1])
        self._table = table.select("problem_key", "first", "count", start=pl.Series(self._starts[:-1])).lazy()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def of(self, rows: pl.LazyFrame, index: str = "sample_index") -> pl.LazyFrame:
        """Return the rows that have a place, with it in the column ``slot``."""
        found = rows.join(self._table, on="problem_key", how="inner")
        at = pl.col(index) - pl.col("first")
        return (
            found.filter(at >= 0, at < pl.col("count"))
            .with_columns(slot=pl.col("start") + at)
            .drop("first", "count", "start")
        )

    def problems(self, slots: Slots) -> Slots:
        """Return the number of each place's problem: its position in ``keys``."""
        return np.searchsorted(self.starts, slots, side="right") - 1

    def indices(self, slots: Slots) -> Slots:
        """Return the index of each place's sample."""
        at = np.searchsorted(self._starts, slots, side="right") - 1
        return self._firsts[at] + slots - self._starts[at]

    def number(self, key: str) -> int | None:
        """Return the number of a problem; None where it isn't one of the view's."""
        at = self.keys.search_sorted(key)
        return at if at < len(self.keys) and self.keys[at] == key else None

    def span(self, problem: int) -> tuple[int, int]:
        """Return the first place of a problem, and the one behind its last."""
        return int(self.starts[problem]), int(self.starts[problem + 1])

    def slot(self, key: str, index: int) -> int | None:
        """Return a sample's place; None where it isn't in the view."""
        found = self._table.filter(pl.col("problem_key") == key).collect()
        for _, first, count, start in found.iter_rows():
            if first <= index < first + count:
                return start + index - first
        return None
