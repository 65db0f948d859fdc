"""Writing rows of samples: one that no table takes costs itself alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from schemas import datasets
from schemas.contract import Contract, polars_schema, validate
from schemas.errors import ContractViolation

Row = dict[str, Any]
UNFIT = (ContractViolation, UnicodeError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)
"""What a row is refused with that isn't one."""
CHUNK = 256
"""About so many rows are dictionaries at most."""
Bad = tuple[str, int, str]
"""(problem_key, sample index, why)."""


class DrawnRows:
    """Rows that were drawn and wait to be written: as columns, which take a tenth of what they take as dictionaries."""

    def __init__(self, contract: type[Contract]) -> None:
        self._schema = polars_schema(contract)
        self._index = contract.index
        self._rows: list[Row] = []
        self._tables: list[pl.DataFrame] = []
        self._bad: list[Bad] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: list[Row]) -> None:
        self._rows += rows
        self._count += len(rows)
        if len(self._rows) >= CHUNK:
            self._tables.append(self._table())
            self._rows = []

    def take(self) -> tuple[pl.DataFrame, list[Bad]]:
        """Return all rows as one table, and those that no table takes; forget them."""
        tables, bad = [*self._tables, self._table()], self._bad
        self._rows, self._tables, self._bad, self._count = [], [], [], 0
        return pl.concat(tables), bad

    def _table(self) -> pl.DataFrame:
        try:
            return pl.DataFrame(self._rows, schema=self._schema, orient="row")
        except UNFIT:
            good: list[pl.DataFrame] = [pl.DataFrame(schema=self._schema)]
            for row in self._rows:
                try:
                    good.append(pl.DataFrame([row], schema=self._schema, orient="row"))
                except UNFIT as error:
                    self._bad.append((row["problem_key"], row[self._index], _why(error)))
            return pl.concat(good)


def write_samples(
    root: Root, folder: str, table: pl.DataFrame, stage: str, alone: bool = True
) -> tuple[Part | None, list[Bad]]:
    """Write the rows that can be written as one part; return it, and the other rows with what is wrong with them.

    Args:
        alone: a row that can't be written costs itself alone; else it is an error.
    """
    try:
        return write_part(root, folder, table, datasets.Sample, stage), []
    except UNFIT:
        good, bad = _apart(table, stage)
        if not bad or not alone:
            raise  # it isn't the rows
    return write_part(root, folder, good, datasets.Sample, stage) if len(good) else None, bad


def _apart(table: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, list[Bad]]:
    """Return the rows that can be written, and the others with what is wrong with each."""
    good: list[pl.DataFrame] = [table.clear()]
    bad: list[Bad] = []
    for place in range(len(table)):
        row = table[place]
        try:
            good.append(validate(row, datasets.Sample, stage).select(table.columns))
        except UNFIT as error:
            bad.append((row["problem_key"][0], row["sample_index"][0], _why(error)))
    return pl.concat(good), bad


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
