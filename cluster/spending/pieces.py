"""A run's logs: tables that are written a piece at a time, each before what it tells is done, and put together at the
end."""

from __future__ import annotations

import io

import polars as pl

from cluster.storage.root import Root
from schemas.contract import Contract, polars_schema, validate

SUFFIX = ".parquet"


def write_piece(root: Root, folder: str, table: pl.DataFrame, contract: type[Contract]) -> None:
    """Make rows durable; ``sequence`` numbers them through the whole log."""
    table = validate(table, contract, folder.rpartition("/")[2])
    _write(root, folder, f"{table['sequence'][0]:010d}{SUFFIX}", table)


def join_pieces(root: Root, folder: str, contract: type[Contract]) -> None:
    """Put the pieces together into one file, called as the folder."""
    table, whole = read_pieces(root, folder, contract), f"{folder.rpartition('/')[2]}{SUFFIX}"
    if len(table):
        _write(root, folder, whole, table)
        for name in _names(root, folder):
            if name != whole:
                root.remove(folder, name)


def read_pieces(root: Root, folder: str, contract: type[Contract]) -> pl.DataFrame:
    """Return all rows, in order; none where nothing was written."""
    tables = [pl.read_parquet(io.BytesIO(root.read_bytes(folder, name))) for name in _names(root, folder)]
    if not tables:
        return pl.DataFrame(schema=polars_schema(contract))
    tables.insert(0, pl.DataFrame(schema=polars_schema(contract)))  # older ones lack the columns that were added since
    # a crash while the pieces were put together leaves both
    return pl.concat(tables, how="diagonal").unique("sequence", keep="first").sort("sequence")


def _names(root: Root, folder: str) -> list[str]:
    return [name for name in root.list(folder) if name.endswith(SUFFIX)]


def _write(root: Root, folder: str, name: str, table: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    root.write_bytes(buffer.getvalue(), folder, name)
