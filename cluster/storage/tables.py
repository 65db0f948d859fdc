"""Plain tables in and out: Parquet (files, folders, Delta tables), JSON and CSV, on any fsspec URL."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from operators.load.checks import Notes
from operators.load.formats import SUFFIXES
from operators.load.places import read_place
from operators.load.rows import Rows, as_json
from schemas.errors import BadInput

__all__ = ["SUFFIXES", "read_rows", "read_table", "typed", "write_table"]

WRITABLE = (".parquet", ".jsonl", ".ndjson", ".csv")


def read_table(path: str) -> pl.DataFrame:
    """Read one table; a folder is a Delta table or a set of files.

    Raises:
        BadInput: it doesn't exist, can't be read, or has no rows.
    """
    return typed(read_rows(path))


def read_rows(path: str) -> Rows:
    """Read one table as it is written: each row of a JSON file keeps its shape, a CSV file has texts.

    Raises:
        BadInput: it doesn't exist, can't be read, or has no rows.
    """
    try:
        rows = read_place(path, None, None, Notes())
    except BadInput:
        raise
    except Exception as error:  # every reader has errors of its own; all mean that this file can't be read
        raise BadInput(f"'{path}' can't be read: {error}") from error
    if not len(rows):
        raise BadInput(f"'{path}' has no rows")
    return rows


def typed(rows: Rows) -> pl.DataFrame:
    """Return rows as a table with dtypes.

    Texts that are all whole numbers, numbers or truth values become these where nothing is lost by it: ``007`` stays
    text. Lists of one kind are lists, other nested values JSON texts.
    """
    plain = [_number(column) if column.dtype == pl.String else column for column in rows.table.get_columns()]
    return pl.DataFrame([*plain, *(_listed(name, values) for name, values in rows.objects.items())])


def _number(column: pl.Series) -> pl.Series:
    there = column.drop_nulls()
    if not len(there):
        return column
    if there.is_in(["true", "false", "True", "False"]).all():
        return column.str.to_lowercase() == "true"
    for dtype in (pl.Int64, pl.Float64):
        if there.str.contains(r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$").all():
            number = column.cast(dtype, strict=False)
            if number.null_count() == column.null_count():
                return number
    return column


def _listed(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    inner = {type(item) for value in values if isinstance(value, list) for item in value if item is not None}
    if kinds == {list} and inner <= {int, float}:
        return pl.Series(name, values, dtype=pl.List(pl.Float64 if float in inner else pl.Int64))
    if kinds == {list} and len(inner) == 1 and inner <= {str, bool}:
        return pl.Series(name, values, dtype=pl.List(pl.String if str in inner else pl.Boolean))
    if kinds == {int, float} and all(abs(value) <= 2**53 for value in values if isinstance(value, int)):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, [None if value is None else as_json(value) for value in values], dtype=pl.String)


def write_table(table: pl.DataFrame, path: str) -> None:
    """Write one table, by the path's suffix.

    Raises:
        BadInput: another suffix, or a place that can't be written.
    """
    buffer = io.BytesIO()
    match Path(path).suffix:
        case ".parquet":
            table.write_parquet(buffer)
        case ".jsonl" | ".ndjson":
            table.write_ndjson(buffer)
        case ".csv":
            _flat(table).write_csv(buffer)
        case suffix:
            raise BadInput(f"--out '{path}': unknown kind of file '{suffix}'; writable: {', '.join(WRITABLE)}")
    fs, place = fsspec.core.url_to_fs(path)
    try:
        fs.makedirs(str(Path(place).parent), exist_ok=True)
        with fs.open(place, "wb") as file:
            file.write(buffer.getvalue())
    except OSError as error:
        raise BadInput(f"--out '{path}' can't be written: {error}") from error


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose lists and objects are JSON texts: CSV has neither."""
    nested = [column for column in table.get_columns() if column.dtype.is_nested()]
    return table.with_columns(
        pl.Series(
            column.name, [None if value is None else as_json(value) for value in column.to_list()], dtype=pl.String
        )
        for column in nested
    )
