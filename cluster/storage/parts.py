"""Parts: single Parquet files written by workers, the unit of work and of retry.

A part is validated, sorted by key and written under a fresh name; it exists only once a commit (of a store) or a
manifest (of a snapshot) names it. Row groups are small and carry statistics on the keys, so that a reader who wants a
few problems of a large file skips the rest; pages carry checksums, so that damage is found.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.arrow import arrow_schema
from cluster.storage.durable import sync_folder
from cluster.storage.heap import give_back
from cluster.storage.ranges import KEYED, ranges_of
from cluster.storage.root import Root
from schemas import __version__
from schemas.contract import Contract, validate
from schemas.datasets import SCHEMA_VERSION, STORES


@dataclass(frozen=True)
class Part:
    """A written file, not yet committed."""

    name: str
    rows: int
    size: int
    stats: str
    """Delta statistics of the key columns, as JSON."""
    ranges: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=KEYED), compare=False)
    """The samples in it, as keyed ranges (stores only; not of a merge, which has what the merged files had)."""
    tallies: dict[str, float] = field(default_factory=dict[str, float])
    """Sums over its rows that go into the stage's record: tokens, accepted, failed."""


ROW_GROUP = 20_000
"""Rows per row group: two problems at 10,000 samples each."""
UNIQUE_TEXTS = ("completion", "reasoning", "prompt", "messages", "lineage", "text", "lead", "turns")
"""Columns whose values hardly repeat: no dictionary is tried for them, and no statistics kept."""


def write_part(
    root: Root,
    folder: str,
    table: pl.DataFrame,
    contract: type[Contract],
    stage: str,
    *,
    name: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Part:
    """Validate ``table`` and write it as one file of ``folder``.

    Args:
        name: the file's name; a fresh one by default. A file of a given name is replaced whole.
        metadata: key-value pairs for the Parquet footer, beside schema version and Gristmill version.

    Raises:
        ContractViolation: nothing was written.
        StorageFull, StorageUnavailable: nothing was written.
    """
    table = validate(table, contract, stage)
    fresh = name or fresh_name()
    size = write_tables(root, folder, fresh, [table], contract, metadata)
    return part_of(fresh, table, size, contract)


def part_of(name: str, table: pl.DataFrame, size: int, contract: type[Contract]) -> Part:
    """Describe a file of ``size`` bytes that holds ``table``, in order of its keys."""
    ranges = ranges_of(table, contract.index) if is_indexed(contract) else pl.DataFrame(schema=KEYED)
    return Part(name, len(table), size, _statistics(table, contract), ranges, _tallies(table))


def fresh_name() -> str:
    """Return a file name that nobody else uses."""
    return f"{uuid.uuid4().hex}.parquet"


def is_indexed(contract: type[Contract]) -> bool:
    """Whether its rows are keyed by problem and sample (or episode)."""
    return {"problem_key", contract.index} <= set(contract.primary_key())


def write_tables(
    root: Root,
    folder: str,
    name: str,
    tables: Iterable[pl.DataFrame],
    contract: type[Contract],
    metadata: dict[str, str] | None = None,
) -> int:
    """Write tables (validated, in order of the key from one to the next) as one file; return its size in bytes.

    Only one table is held at a time. The file appears whole or not at all.
    """
    footer = {"gristmill": __version__, "schema_version": str(SCHEMA_VERSION), **(metadata or {})}
    schema = arrow_schema(contract).with_metadata(footer)
    held = list(tables) if not root.is_local else tables  # a remote write may have to be done again

    def write() -> int:
        with _whole_file(root, folder, name) as file:
            with pq.ParquetWriter(file, schema, **_layout(schema)) as writer:
                for table in held:
                    writer.write_table(table.to_arrow().cast(schema), row_group_size=ROW_GROUP)
            return file.tell()

    size = root.patiently(write, f"writing {folder}/{name}")
    give_back()
    return size


def _layout(schema: pa.Schema) -> dict[str, Any]:
    repeated = [field.name for field in schema if field.name not in UNIQUE_TEXTS and not pa.types.is_nested(field.type)]
    return {
        "compression": "zstd",
        "use_dictionary": repeated,
        "write_statistics": repeated,
        "write_page_checksum": True,
    }


@contextmanager
def _whole_file(root: Root, folder: str, name: str) -> Iterator[Any]:
    """Open a file that appears under its name, synced, once the block ends well."""
    if not root.is_local:
        with pa.BufferOutputStream() as stream:
            yield stream
            root.fs.pipe_file(root.uri(folder, name), stream.getvalue().to_pybytes())
        return
    target = Path(root.uri(folder, name))
    if folder.split("/")[0] in STORES.values():
        root.check_there(folder)  # made with its table
    root.make_folder(target.parent)
    temporary = target.with_name(f"{uuid.uuid4().hex}.partial")  # not hidden: vacuum finds what a crash leaves
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _statistics(table: pl.DataFrame, contract: type[Contract]) -> str:
    keys = [name for name in contract.primary_key() if table.schema[name] in (pl.String, pl.Int64)]
    bounds = table.select(
        pl.len(),
        *[pl.col(name).min().alias(f"min_{name}") for name in keys],
        *[pl.col(name).max().alias(f"max_{name}") for name in keys],
    ).row(0, named=True)
    return delta_statistics(
        len(table),
        {name: bounds[f"min_{name}"] for name in keys if len(table)},
        {name: bounds[f"max_{name}"] for name in keys if len(table)},
    )


def delta_statistics(rows: int, low: dict[str, Any], high: dict[str, Any]) -> str:
    """Return the statistics of a file as Delta keeps them: JSON with the bounds of its key columns."""
    counts = dict.fromkeys(low, 0)
    return json.dumps({"numRecords": rows, "minValues": low, "maxValues": high, "nullCount": counts})


def _tallies(table: pl.DataFrame) -> dict[str, float]:
    sums: dict[str, pl.Expr] = {}
    for name in ("prompt_tokens", "cached_prompt_tokens", "completion_tokens"):
        if name in table.columns:
            sums[name] = pl.col(name).sum()
    if "tokens_estimated" in table.columns:
        read_and_written = pl.col("prompt_tokens") + pl.col("completion_tokens")
        sums["estimated_tokens"] = read_and_written.filter(pl.col("tokens_estimated")).sum()
    if "finish_reason" in table.columns:
        sums["truncated"] = (pl.col("finish_reason") == "length").sum()
    if "is_correct" in table.columns:
        sums["accepted"] = pl.col("is_correct").sum()
    if "status" in table.columns:
        sums["failed"] = (pl.col("status") == "error").sum()
        sums["unparseable"] = (pl.col("status") == "unparseable").sum()
    return {name: float(value or 0) for name, value in table.select(**sums).row(0, named=True).items()} if sums else {}
