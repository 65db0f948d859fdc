"""Compaction: many small files become few large ones, while a run goes on.

Files are merged in tiers: as soon as sixteen files of about one size lie in a store, one takes their place, so that
every row is rewritten a few times at most, and a store never has more than a few dozen small files. Merged files are
sorted by key over the whole file. They are written a few problems at a time; memory doesn't grow with their size. The
old files stay on disk until they are vacuumed: whoever is reading them goes on reading.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from cluster.storage.parts import Part, delta_statistics, fresh_name, write_tables
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from cluster.working.work import Done
from schemas.contract import Contract

TARGET = 128 * 2**20
"""Bytes that a file aims at."""
FAN_IN = 16
"""How many files of a tier are merged."""
SMALLEST = 2**16
"""Bytes; all smaller files are one tier."""
BATCH_ROWS = 100_000
"""Rows in memory while merging (whole problems, so more where one has more)."""


def next_merge(sizes: Mapping[str, int], fan_in: int = FAN_IN, target: int = TARGET) -> list[str]:
    """Return the names of files that should become one; none where the store is tidy.

    Args:
        sizes: file name -> bytes, oldest first.
    """
    tiers: dict[int, list[str]] = {}
    for name, size in sizes.items():
        if size < target // 2:
            tiers.setdefault(int(math.log(max(size, SMALLEST) / SMALLEST, fan_in)), []).append(name)
    for tier in sorted(tiers):
        chosen: list[str] = []
        total = 0
        for name in tiers[tier]:
            if total + sizes[name] > target:
                break
            chosen.append(name)
            total += sizes[name]
        if len(chosen) >= fan_in or (len(chosen) > 1 and len(chosen) < len(tiers[tier])):
            return chosen
    return []


@dataclass(frozen=True)
class Merge:
    """Work: write the rows of several files of a store as one."""

    number: int
    stage: str
    root: str
    folder: str
    contract: type[Contract]
    files: tuple[str, ...]
    rows: int
    """How many they have together."""

    def run(self) -> Done:
        """Write the merged file; nothing is committed yet."""
        began = time.perf_counter()
        root, name = Root(self.root), fresh_name()
        scan = scan_files(root, [root.uri(self.folder, file) for file in self.files], self.contract)
        problems = root.patiently(lambda: _problems(scan), f"reading the keys of {self.folder}")
        size = write_tables(root, self.folder, name, self._batches(root, scan, problems), self.contract)
        bounds = problems.select(
            pl.col("problem_key").min().alias("low_key"),
            pl.col("problem_key").max().alias("high_key"),
            pl.col("low").min(),
            pl.col("high").max(),
        ).row(0, named=True)
        low = {"problem_key": bounds["low_key"], "sample_index": bounds["low"]}
        high = {"problem_key": bounds["high_key"], "sample_index": bounds["high"]}
        part = Part(name, self.rows, size, delta_statistics(self.rows, low, high))
        return Done(part, time.perf_counter() - began)

    def _batches(self, root: Root, scan: pl.LazyFrame, problems: pl.DataFrame) -> Iterator[pl.DataFrame]:
        batch = (pl.col("rows").cum_sum() - 1) // BATCH_ROWS
        bounds = problems.group_by(batch.alias("batch"), maintain_order=True).agg(
            pl.col("problem_key").first().alias("low"), pl.col("problem_key").last().alias("high")
        )
        for low, high in bounds.select("low", "high").iter_rows():
            rows = scan.filter(pl.col("problem_key").is_between(pl.lit(low), pl.lit(high)))
            yield root.patiently(lambda rows=rows: rows.collect(), f"reading {self.folder}").sort(
                self.contract.primary_key()
            )


def _problems(scan: pl.LazyFrame) -> pl.DataFrame:
    """Return each problem, in order, with its number of rows and the bounds of its sample indices."""
    index = pl.col("sample_index")
    grouped = scan.group_by("problem_key").agg(rows=pl.len(), low=index.min(), high=index.max())
    return grouped.collect(engine="streaming").sort("problem_key")
