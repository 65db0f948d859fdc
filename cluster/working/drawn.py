"""Rows that were drawn and wait to be written: as columns, which take a tenth of what they take as dictionaries."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas.contract import Contract, polars_schema

CHUNK = 1024
"""About so many rows are dictionaries at most."""


class DrawnRows:
    """Rows of a contract, in the order in which they were added."""

    def __init__(self, contract: type[Contract]) -> None:
        self._schema = polars_schema(contract)
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pl.DataFrame] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        self._count += len(rows)
        if len(self._rows) >= CHUNK:
            self._tables.append(self._table())
            self._rows = []

    def take(self) -> pl.DataFrame:
        """Return all rows as one table, and forget them."""
        tables = [*self._tables, self._table()]
        self._rows, self._tables, self._count = [], [], 0
        return pl.concat(tables)

    def _table(self) -> pl.DataFrame:
        return pl.DataFrame(self._rows, schema=self._schema, orient="row")
