"""Slices: what one task reads of a dataset, as a description that travels to workers instead of rows."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from cluster.storage.ranges import Range, as_table, restrict
from cluster.storage.root import Root
from schemas.contract import Columns, polars_schema


@dataclass(frozen=True)
class Slice:
    """Files of one dataset, and which of their rows.

    ``ranges`` restricts a store's rows to a view; ``problem_keys`` restricts a snapshot's rows to some problems; None
    takes all.
    """

    uris: tuple[str, ...]
    ranges: tuple[Range, ...] | None = None
    problem_keys: tuple[str, ...] | None = None

    def scan(self, root: Root, columns: Columns) -> pl.LazyFrame:
        """Return a lazy scan of the wanted columns; only they, and the keys that restrict rows, are read."""
        dtypes = {name: polars_schema(columns.contract)[name] for name in columns.names}
        if not self.uris:
            return pl.LazyFrame(schema=dtypes)
        rows = pl.scan_parquet(list(self.uris), storage_options=root.storage_options() or None)
        if self.problem_keys is not None:
            rows = rows.filter(pl.col("problem_key").is_in(list(self.problem_keys)))
        if self.ranges is not None:
            rows = restrict(rows, as_table(self.ranges))
        return rows.select(columns.names)
