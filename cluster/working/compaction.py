"""Compaction: many small files become few large ones, while a run goes on.

Files are merged in tiers: as soon as sixteen files of about one size lie in a store, one takes their place, so that
every row is rewritten a few times at most, and a store never has more than a few dozen small files. Merged files are
sorted by key over the whole file. They are written some rows at a time; memory doesn't grow with their size, nor with
the samples of one problem. The old files stay on disk until they are vacuumed: whoever is reading them goes on reading.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from cluster.storage.parts import Part, delta_statistics, fresh_name, write_tables
from cluster.storage.ranges import restrict
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
BATCH_BYTES = 2**20
"""Of the files, as they are compressed, so much is in memory while merging, about (all of one problem and index, so
more where these repeat)."""
MOST_ROWS = 50_000
EVERY = 500
"""Of so many rows of a file one key is looked at to know where batches end."""
OUTLINE_ROWS = 100_000
"""Keys of so many rows are read at a time."""


Key = tuple[str, int]
"""Of a row: its problem, and its index in it."""


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
    """How many the merged file has."""
    size: int
    """Bytes of the files."""
    without: pl.DataFrame | None = None
    """Rows that are left out, as keyed ranges: they are to be made again."""

    def run(self) -> Done:
        """Write the merged file; nothing is committed yet."""
        began = time.perf_counter()
        root, name = Root(self.root), fresh_name()
        outlines = [self._outline(root, file) for file in self.files]
        size = write_tables(root, self.folder, name, self._batches(root, outlines), self.contract)
        index = self.contract.index
        low = {"problem_key": min(one.keys[0][0] for one in outlines), index: min(one.low for one in outlines)}
        high = {"problem_key": max(one.last for one in outlines), index: max(one.high for one in outlines)}
        part = Part(name, self.rows, size, delta_statistics(self.rows, low, high))
        return Done(part, time.perf_counter() - began)

    def _scan(self, root: Root, file: str) -> pl.LazyFrame:
        return scan_files(root, root.uri(self.folder, file), self.contract)

    def _outline(self, root: Root, file: str) -> _Outline:
        """Look through the keys of a file, some rows at a time."""
        scan = self._scan(root, file).select("problem_key", self.contract.index)
        keys: list[Key] = []
        last, low, high, first = "", 2**63 - 1, 0, 0
        while True:
            rows = root.patiently(scan.slice(first, OUTLINE_ROWS).collect, f"reading the keys of {self.folder}")
            if rows.is_empty():
                return _Outline(keys, last, low, high)
            keys += rows.gather_every(EVERY).iter_rows()
            index = rows[self.contract.index]
            last, first = rows["problem_key"][-1], first + len(rows)
            low, high = min(low, index.min()), max(high, index.max())  # pyright: ignore[reportArgumentType]

    def _batches(self, root: Root, outlines: list[_Outline]) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, some at a time; of each file no more is read than they need."""
        keys = sorted(key for one in outlines for key in one.keys)
        step = max(1, min(MOST_ROWS, self.rows * BATCH_BYTES // max(1, self.size)) // EVERY)
        bounds = list(dict.fromkeys(keys[step::step]))
        for low, high in zip([None, *bounds], [*bounds, None], strict=True):
            mine = pl.lit(True) if low is None else self._from(*low)
            mine = mine if high is None else mine & ~self._from(*high) & (pl.col("problem_key") <= high[0])
            scans = [self._scan(root, file).filter(mine) for file in self.files]
            tables = [root.patiently(scan.collect, f"reading {self.folder}") for scan in scans]
            rows = pl.concat(tables).sort(self.contract.primary_key())
            if self.without is not None:
                gone = restrict(rows.lazy(), self.without, self.contract.index).collect()
                rows = rows.join(gone, on=self.contract.primary_key(), how="anti", maintain_order="left")
            if len(rows):
                yield rows

    def _from(self, problem_key: str, index: int) -> pl.Expr:
        """Whether a row doesn't come before some key; bounds of problems alone let readers skip most of a file."""
        key = pl.col("problem_key")
        return (key >= problem_key) & ((key > problem_key) | (pl.col(self.contract.index) >= index))


class _Outline(NamedTuple):
    """What is known of a file before it is merged: some of its keys, from the first, and its bounds."""

    keys: list[Key]
    last: str
    low: int
    high: int
