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
from cluster.storage.ranges import Range, RangeMap
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
    files: dict[str, tuple[Range, ...]]

    @property
    def rows(self) -> int:
        return sum(item.size for ranges in self.files.values() for item in ranges)

    def run(self) -> Done:
        """Write the merged file; nothing is committed yet."""
        began = time.perf_counter()
        root, name = Root(self.root), fresh_name()
        held = RangeMap(item for ranges in self.files.values() for item in ranges)
        ranges = tuple(sorted(held))
        size = write_tables(root, self.folder, name, self._batches(root, ranges), self.contract)
        low, high = ranges[0], ranges[-1]
        keys = {"problem_key": (low.problem_key, high.problem_key)}
        keys["sample_index"] = (min(r.first for r in ranges), max(r.first + r.size - 1 for r in ranges))  # pyright: ignore[reportArgumentType]
        stats = delta_statistics(self.rows, {k: v[0] for k, v in keys.items()}, {k: v[1] for k, v in keys.items()})
        return Done(Part(name, self.rows, size, stats, ranges), time.perf_counter() - began)

    def _batches(self, root: Root, ranges: tuple[Range, ...]) -> Iterator[pl.DataFrame]:
        for keys in _batched(ranges):
            holding = [root.uri(self.folder, name) for name, mine in self.files.items() if _touches(mine, keys)]
            rows = scan_files(root, holding, self.contract).filter(pl.col("problem_key").is_in(sorted(keys)))
            yield root.patiently(lambda rows=rows: rows.collect(), f"reading {self.folder}").sort(
                self.contract.primary_key()
            )


def _batched(ranges: tuple[Range, ...]) -> Iterator[set[str]]:
    keys: set[str] = set()
    rows = 0
    for item in ranges:
        if rows + item.size > BATCH_ROWS and keys and item.problem_key not in keys:
            yield keys
            keys, rows = set(), 0
        keys.add(item.problem_key)
        rows += item.size
    yield keys


def _touches(ranges: tuple[Range, ...], keys: set[str]) -> bool:
    return any(item.problem_key in keys for item in ranges)
