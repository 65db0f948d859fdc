"""Parts: single Parquet files written by workers, the unit of work and of retry.

A part is validated, sorted by key and written under a fresh name; it exists only once a commit (of a store) or a
manifest (of a snapshot) names it.
"""

from __future__ import annotations

import io
import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.arrow import arrow_schema
from cluster.storage.ranges import Range, ranges_of
from cluster.storage.root import Root
from schemas import __version__
from schemas.contract import Contract, validate
from schemas.datasets import SCHEMA_VERSION


@dataclass(frozen=True)
class Part:
    """A written file, not yet committed."""

    name: str
    rows: int
    size: int
    stats: str
    """Delta statistics of the key columns, as JSON."""
    ranges: tuple[Range, ...] = ()
    """The sample keys in it (stores only)."""
    tallies: dict[str, float] = field(default_factory=dict[str, float])
    """Sums over its rows that go into the stage's record: tokens, accepted, failed."""


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
        name: the file's name; a fresh one by default.
        metadata: key-value pairs for the Parquet footer, beside schema version and Gristmill version.

    Raises:
        ContractViolation: nothing was written.
    """
    table = validate(table, contract, stage)
    name = name or f"{uuid.uuid4().hex}.parquet"
    footer = {"gristmill": __version__, "schema_version": str(SCHEMA_VERSION), **(metadata or {})}
    schema = arrow_schema(contract).with_metadata(footer)
    arrow = table.to_arrow().cast(schema)
    size = _write(root, folder, name, arrow)
    ranges = tuple(ranges_of(table)) if {"problem_key", "sample_index"} <= set(contract.primary_key()) else ()
    return Part(name, len(table), size, _statistics(table, contract), ranges, _tallies(table))


def _write(root: Root, folder: str, name: str, arrow: pa.Table) -> int:
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd", row_group_size=128 * 1024)
    data = buffer.getvalue()
    if root.is_local and name.startswith("part-"):
        root.write_bytes(data, folder, name)  # a snapshot's part has a fixed name: replace it whole
    elif root.is_local:
        path = Path(root.uri(folder, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    else:
        root.fs.pipe_file(root.uri(folder, name), data)
    return len(data)


def _statistics(table: pl.DataFrame, contract: type[Contract]) -> str:
    keys = [name for name in contract.primary_key() if table.schema[name] in (pl.String, pl.Int64)]
    bounds = table.select(
        *[pl.col(name).min().alias(f"min_{name}") for name in keys],
        *[pl.col(name).max().alias(f"max_{name}") for name in keys],
    ).row(0, named=True)
    return json.dumps(
        {
            "numRecords": len(table),
            "minValues": {name: bounds[f"min_{name}"] for name in keys if len(table)},
            "maxValues": {name: bounds[f"max_{name}"] for name in keys if len(table)},
            "nullCount": dict.fromkeys(keys, 0),
        }
    )


def _tallies(table: pl.DataFrame) -> dict[str, float]:
    sums: dict[str, pl.Expr] = {}
    for name in ("prompt_tokens", "completion_tokens"):
        if name in table.columns:
            sums[name] = pl.col(name).sum()
    if "is_correct" in table.columns:
        sums["accepted"] = pl.col("is_correct").sum()
    if "status" in table.columns:
        sums["failed"] = (pl.col("status") == "error").sum()
    return {name: float(value or 0) for name, value in table.select(**sums).row(0, named=True).items()} if sums else {}
