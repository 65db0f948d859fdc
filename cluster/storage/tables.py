"""Plain tables in and out: Parquet (files, folders, Delta tables), JSONL and CSV, on any fsspec URL."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from schemas.errors import BadInput

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv")


def read_table(path: str) -> pl.DataFrame:
    """Read one table; a folder is a Delta table or a set of Parquet files.

    Raises:
        BadInput: it doesn't exist, can't be read, or has no rows.
    """
    fs, place = fsspec.core.url_to_fs(path)
    if not fs.exists(place):
        raise BadInput(f"'{path}' doesn't exist")
    try:
        table = _read(path, fs, place)
    except BadInput:
        raise
    except Exception as error:  # every reader has errors of its own; all mean that this file can't be read
        raise BadInput(f"'{path}' can't be read: {error}") from error
    if not len(table):
        raise BadInput(f"'{path}' has no rows")
    return table


def _read(path: str, fs: fsspec.AbstractFileSystem, place: str) -> pl.DataFrame:
    if fs.isdir(place):
        if fs.exists(f"{place}/_delta_log"):
            return pl.read_delta(path)
        parts = sorted(fs.glob(f"{place}/**/*.parquet"))
        if not parts:
            raise BadInput(f"the folder '{path}' holds no Parquet files")
        return pl.concat([pl.read_parquet(io.BytesIO(_bytes(fs, part))) for part in parts])
    content = _bytes(fs, place)
    data = io.BytesIO(gzip.decompress(content) if place.endswith(".gz") else content)
    match Path(place.removesuffix(".gz")).suffix:
        case ".parquet":
            return pl.read_parquet(data)
        case ".jsonl" | ".ndjson":
            return pl.read_ndjson(data, infer_schema_length=None)
        case ".csv":
            return pl.read_csv(data, infer_schema_length=None)
        case suffix:
            raise BadInput(f"'{path}': unknown kind of file '{suffix}'; readable: {', '.join(SUFFIXES)}, each also .gz")


def _bytes(fs: Any, place: Any) -> bytes:
    return fs.cat_file(place)


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
            table.write_csv(buffer)
        case suffix:
            raise BadInput(f"--out '{path}': unknown kind of file '{suffix}'; writable: {', '.join(SUFFIXES)}")
    fs, place = fsspec.core.url_to_fs(path)
    try:
        fs.makedirs(str(Path(place).parent), exist_ok=True)
        with fs.open(place, "wb") as file:
            file.write(buffer.getvalue())
    except OSError as error:
        raise BadInput(f"--out '{path}' can't be written: {error}") from error
