"""Tables to which many processes append small rows, and of which nothing is ever changed: the ledger, annotations."""

from __future__ import annotations

import polars as pl
from deltalake import write_deltalake
from deltalake.exceptions import TableNotFoundError

from cluster.storage.arrow import arrow_schema
from cluster.storage.delta import scan_store
from cluster.storage.delta_log import newest_entry, sync_appended, table_exists
from cluster.storage.root import Root
from schemas.contract import Contract, polars_schema


def append(root: Root, folder: str, contract: type[Contract], rows: pl.DataFrame) -> None:
    """Add rows to a table, durably; it is made where it isn't there."""
    if rows.is_empty():
        return
    table = rows.to_arrow().cast(arrow_schema(contract))

    def write() -> None:
        options = root.storage_options() or None  # an older table gets the columns that were added since
        before = newest_entry(root, folder)
        write_deltalake(root.uri(folder), table, mode="append", schema_mode="merge", storage_options=options)
        sync_appended(root, folder, before)

    root.patiently(write, f"writing the {folder}")


def read_appended(root: Root, folder: str, contract: type[Contract]) -> pl.DataFrame:
    """Return all rows of a table; empty where there are none.

    Raises:
        DamagedLog: there were some, and the log that names them isn't whole.
    """
    if not table_exists(root, folder):
        return pl.DataFrame(schema=polars_schema(contract))
    try:
        rows = scan_store(root, folder, contract)
        return root.patiently(lambda: rows.collect(), f"reading the {folder}")
    except TableNotFoundError:
        return pl.DataFrame(schema=polars_schema(contract))
