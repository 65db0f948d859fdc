"""A store's Delta table: made, opened, listed, its keys read. What that means and who may write is up to ``store``."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from cluster.storage.arrow import arrow_schema
from cluster.storage.delta_log import CHECKPOINT_INTERVAL, LINES, LOG, check_log, sync_log, table_exists
from cluster.storage.documents import tell
from cluster.storage.patience import is_away
from cluster.storage.ranges import KEYED, ranges_by_file
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE, damaged_file, scan_files
from schemas import __version__
from schemas.contract import Contract
from schemas.datasets import CALLS_FOLDER, SCHEMA_VERSION
from schemas.errors import BadInput, DamagedLog
from schemas.redaction import redacted


def calls_folder(folder: str) -> str:
    """Return the folder of the calls that a store's rows came of."""
    return f"{CALLS_FOLDER}/{folder.split('/')[1]}"


def make_table(
    root: Root, folder: str, contract: type[Contract], fingerprint: dict[str, Any], *, anew: bool = False
) -> DeltaTable:
    """Make a store's table, durably, and return it (another writer may make it at the same time).

    Args:
        anew: whether files may be there, of a table whose log is gone.

    Raises:
        DamagedLog: they are, and may not.
    """
    if not anew:
        table_exists(root, folder)
    about = {"identity": fingerprint, "schema_version": SCHEMA_VERSION, "gristmill": __version__}
    table = root.patiently(
        lambda: DeltaTable.create(
            root.uri(folder),
            arrow_schema(contract),
            mode="ignore",
            name=folder.split("/")[0],
            description=json.dumps(about, sort_keys=True),
            configuration={"delta.checkpointInterval": str(CHECKPOINT_INTERVAL)},
            storage_options=root.storage_options(),
        ),
        f"making {folder}",
    )
    root.patiently(lambda: sync_log(root, folder, -1, 0), f"making {folder}")
    return table


def append_entry(
    root: Root,
    folder: str,
    table: DeltaTable,
    actions: list[AddAction | RemoveAction],
    numbers: list[Transaction],
    contract: type[Contract],
) -> None:
    """Append one entry to a table's log. It is durable only once ``delta_log.sync_log`` has returned.

    Raises:
        CommitFailedError: another writer's came first.
        RootLost: the table isn't there any more.
    """
    root.check_there(f"{folder}/{LOG}")
    lines = {LINES: str(1 + len(actions) + len(numbers))}
    mark = CommitProperties(app_transactions=numbers, max_commit_retries=0, custom_metadata=lines)
    table.create_write_transaction(actions, mode="append", schema=arrow_schema(contract), commit_properties=mark)


def widen(root: Root, folder: str, table: DeltaTable, contract: type[Contract]) -> None:
    """Give a table of an older Gristmill the columns that its contract got since; its files stay as they are."""
    known = {field.name for field in table.schema().fields}
    wanted = Schema.from_arrow(arrow_schema(contract)).fields
    added = [field for field in wanted if field.name not in known]
    if added:
        before = table.version()
        root.patiently(lambda: table.alter.add_columns(added), f"adding columns to {folder}")
        root.patiently(lambda: sync_log(root, folder, before, table.version()), f"adding columns to {folder}")


def check_version(folder: str, table: DeltaTable) -> None:
    """Refuse a table of another schema version.

    Raises:
        BadInput: with the version that made it.
    """
    about = json.loads(table.metadata().description or "{}")
    if about.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise BadInput(
            f"store '{folder}' has schema version {about['schema_version']}, this Gristmill writes "
            f"{SCHEMA_VERSION}: use the version that made it ({about.get('gristmill')}) or another root"
        )


def listed_files(table: DeltaTable, index: str = "sample_index") -> pl.DataFrame:
    """Return the files of a table: name, size, rows and the bounds of their keys, as the log has them."""
    adds = pl.DataFrame(table.get_add_actions(flatten=True))
    wanted = {
        "path": "name",
        "size_bytes": "size",
        "num_records": "rows",
        "min.problem_key": "low_key",
        "max.problem_key": "high_key",
        f"min.{index}": "low",
        f"max.{index}": "high",
    }
    present = [pl.col(old).alias(new) for old, new in wanted.items() if old in adds.columns]
    absent = [pl.lit(None).alias(new) for old, new in wanted.items() if old not in adds.columns]
    return adds.select(*present, *absent)


def open_table(root: Root, folder: str) -> DeltaTable:
    """Return a store's table as its log has it now.

    Raises:
        TableNotFoundError: there is no such store.
        DamagedLog: its log isn't whole.
    """
    if not table_exists(root, folder):
        raise TableNotFoundError(f"there is no table in {folder}")
    check_log(root, folder)
    try:
        return root.patiently(
            lambda: DeltaTable(root.uri(folder), storage_options=root.storage_options()), f"opening {folder}"
        )
    except DeltaError as error:
        if isinstance(error, TableNotFoundError) or (not root.is_local and is_away(error)):
            raise
        check_log(root, folder, thorough=True)
        raise


def scan_store(root: Root, folder: str, contract: type[Contract]) -> pl.LazyFrame:
    """Return a lazy scan of all rows of a store.

    Delta's own readers take the files' addresses as URLs, in which a blank of a folder's name isn't a blank any more.

    Raises:
        TableNotFoundError: there is no such store.
    """
    table = open_table(root, folder)
    names = root.patiently(lambda: listed_files(table), f"reading the log of {folder}")["name"].to_list()
    return scan_files(root, [root.uri(folder, name) for name in names], contract)


def stored_identities(root: Root, kind: str) -> dict[str, dict[str, Any]]:
    """Return store id -> identity of all stores of a kind under the root (``kind``: "samples", say).

    A store whose log is damaged is told of and left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in root.list(kind):
        try:
            found[name] = stored_identity(root, f"{kind}/{name}")
        except DamagedLog as error:
            tell(str(error))
    return found


def stored_identity(root: Root, folder: str) -> dict[str, Any]:
    """Return what a store's rows depend on, as its log has it; nothing where there is no such store."""
    try:
        table = open_table(root, folder)
    except TableNotFoundError:
        return {}
    return redacted(json.loads(table.metadata().description or "{}").get("identity", {}))


def read_keys(root: Root, folder: str, names: list[str], index: str = "sample_index") -> pl.DataFrame:
    """Return ``name`` and keyed ranges of some files of a store.

    Raises:
        DamagedFile: a file can't be read; the text names it.
    """
    uris = [root.uri(folder, name) for name in names]
    rows = pl.scan_parquet(uris, include_file_paths="name", storage_options=root.storage_options())
    try:
        found = ranges_by_file(rows.select("problem_key", index, file="name"), index)
        return found.select(pl.col("file").str.split("/").list.last().alias("name"), *KEYED)
    except UNREADABLE as error:
        if not root.is_local and is_away(error):
            raise
        damaged = damaged_file(root, uris, ["problem_key", index])
        if damaged is None:
            raise
        raise damaged from error
