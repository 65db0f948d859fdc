"""What tests of damaged data need: a run to damage, ways of damaging it, and what is left afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.arrow import arrow_schema
from cluster.storage.parts import Part, delta_statistics, fresh_name, write_part, write_tables
from cluster.upkeep.repair import repair
from cluster.upkeep.verify_data import Verification, verify
from schemas.contract import Contract
from schemas.datasets import Sample
from tests.support import run, scripted_pipeline, write_problems

PROBLEMS, N = 4, 20


def make(folder: Path) -> RunResult:
    """Make a run over stores of several files: it tops up an earlier one."""
    again(folder, 10)
    return again(folder)


def again(folder: Path, n: int = N) -> RunResult:
    source = write_problems(folder / "p.jsonl", PROBLEMS)
    return run(LocalRunner(), scripted_pipeline(source, n), folder / "root")


def record(result: RunResult, name: str) -> Any:
    return next(record for record in result.manifest.stages if record.name == name)


def files(result: RunResult, name: str) -> list[Path]:
    """Return the current files of a store stage, the largest first."""
    table = DeltaTable(result.root.uri(record(result, name).path))
    found = [Path(uri.removeprefix("file://")) for uri in table.file_uris()]
    return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


def check(result: RunResult) -> Verification:
    return verify(result.root, result.manifest)


def said(found: Verification) -> str:
    return "\n".join(f"{item.stage}: {item.file} {item.what}" for item in found.findings)


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path, column: str = "problem_id") -> None:
    """Change one byte in the middle of a page."""
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    place = next(
        c for c in map(metadata.column, range(metadata.num_columns)) if c.path_in_schema.split(".")[0] == column
    )
    data = bytearray(path.read_bytes())
    data[place.data_page_offset + place.total_compressed_size - 8] ^= 0x55
    path.write_bytes(bytes(data))


def rewrite(result: RunResult, change: Callable[[pl.DataFrame], pl.DataFrame]) -> str:
    """Put another file in the place of the largest samples file, as a careless tool would; return its name."""
    folder, old, name = record(result, "sample").path, files(result, "sample")[0], fresh_name()
    rows = change(pl.read_parquet(old))
    size = write_tables(result.root, folder, name, [rows], Sample)
    key = ("problem_key", "sample_index")
    stats = delta_statistics(len(rows), {n: rows[n].min() for n in key}, {n: rows[n].max() for n in key})
    now = int(time.time() * 1000)
    DeltaTable(result.root.uri(folder)).create_write_transaction(
        [AddAction(name, size, {}, now, True, stats), RemoveAction(old.name, True, now, old.stat().st_size, {})],
        "append",
        arrow_schema(Sample),
    )
    return name


def add_by_hand(result: RunResult, name: str, contract: type[Contract], rows: pl.DataFrame) -> Part:
    """Commit a file past the store's own rules."""
    folder = record(result, name).path
    part = write_part(result.root, folder, rows, contract, name)
    now = int(time.time() * 1000)
    DeltaTable(result.root.uri(folder)).create_write_transaction(
        [AddAction(part.name, part.size, {}, now, True, part.stats)], "append", arrow_schema(contract)
    )
    return part


def wrong_hash(rows: pl.DataFrame) -> pl.DataFrame:
    """Change the hashes of the first two rows."""
    first = pl.int_range(pl.len()) < 2
    return rows.with_columns(pl.when(first).then(pl.col("completion_hash") ^ 1).otherwise("completion_hash"))


def texts(result: RunResult) -> dict[tuple[str, int], tuple[str, str]]:
    rows = pl.read_delta(result.root.uri(record(result, "sample").path))
    assert not rows.select("problem_key", "sample_index").is_duplicated().any()
    columns = ("problem_key", "sample_index", "completion", "run_id")
    return {(key, index): (text, who) for key, index, text, who in rows.select(columns).iter_rows()}


def judged(result: RunResult) -> set[tuple[str, int]]:
    rows = pl.read_delta(result.root.uri(record(result, "verify").path))
    assert not rows.select("problem_key", "sample_index").is_duplicated().any()
    return set(rows.select("problem_key", "sample_index").iter_rows())


def in_file(path: Path) -> set[tuple[str, int]]:
    return set(pl.read_parquet(path).select("problem_key", "sample_index").iter_rows())


def mend(result: RunResult) -> list[str]:
    return repair(result.root, result.manifest, check(result).findings)
