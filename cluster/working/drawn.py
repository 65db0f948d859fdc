"""Rows that were drawn and wait to be written: as columns, which take a tenth of what they take as dictionaries."""

from __future__ import annotations

from typing import Any

import polars as pl

from operators.sample.sampling import Sampling

CHUNK = 1024
"""So many rows are dictionaries at most."""


class DrawnRows:
    """Rows of samples, in the order in which they were added."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pl.DataFrame] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= CHUNK:
            self._tables.append(Sampling.table(self._rows))
            self._rows = []

    def take(self) -> pl.DataFrame:
        """Return all rows as one table, and forget them."""
        tables = [*self._tables, Sampling.table(self._rows)]
        self._rows, self._tables, self._count = [], [], 0
        return pl.concat(tables)
