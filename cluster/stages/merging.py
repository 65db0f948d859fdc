"""Merging: the small files of a store become large ones while a run goes on, one merge at a time.

Rows that are to be made again leave a store the same way: their files are written once more without them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import polars as pl

from cluster.storage.ranges import Ranges, RangeSet
from cluster.storage.store import Store
from cluster.working.compaction import Merge, next_merge
from cluster.working.work import Done

FAILED_MERGES = 3
"""After so many failed merges of a store a run leaves its small files as they are."""

Then = Callable[[bool], None]
"""Called once rows are gone, or can't go."""


class Merging:
    """The merges of one store that a run writes."""

    def __init__(self, store: Store, stage: str) -> None:
        self.store = store
        self._stage = stage
        self._under_way = False
        self._failed = 0
        self._cuts: deque[tuple[Ranges, Then]] = deque()
        self._cutting: tuple[Ranges, Then] | None = None

    def cut(self, ranges: Ranges, then: Then) -> None:
        """Take rows out of the store, once it is their turn."""
        self._cuts.append((ranges, then))

    @property
    def cutting(self) -> bool:
        """Whether rows are still to be taken out."""
        return bool(self._cuts) or self._cutting is not None

    def next(self, number: int) -> Merge | None:
        """Return a merge that is due; None where the store is tidy, or one is under way."""
        store = self.store
        if self._under_way or self._cutting is not None or store.lease is None:
            return None
        while self._cuts:
            ranges, then = self._cutting = self._cuts.popleft()
            names = store.files.holding(ranges)
            if kept := self._kept(names, ranges):
                return self._work(number, names, kept.total, store.numbering.keyed(ranges))
            self._cutting = None
            then(not names or store.drop(names))
        if self._failed >= FAILED_MERGES:
            return None
        names = next_merge(store.sizes)
        if not names or store.root.free_bytes() < 4 * sum(store.sizes[name] for name in names):
            return None  # the old files stay until they are vacuumed, and samples need the space more
        self._under_way = True
        rows = sum(store.rows[name] for name in names)
        return self._work(number, names, rows)

    def _work(self, number: int, names: list[str], rows: int, without: pl.DataFrame | None = None) -> Merge:
        store, size = self.store, sum(self.store.sizes[name] for name in names)
        return Merge(
            number, self._stage, store.root.url, store.folder, store.contract, tuple(names), rows, size, without
        )

    def _kept(self, names: list[str], ranges: Ranges) -> Ranges:
        left = RangeSet(Ranges.joined(self.store.files.of(name) for name in names).merged())
        left.remove(ranges)
        return left.ranges

    def on_merged(self, merge: Merge, done: Done | None) -> None:
        """Commit a merge; None where it failed: it isn't needed, and after a few failures this run tries no more."""
        if merge.without is not None:
            self._on_cut(merge, done)
            return
        if done is not None:
            self.store.replace(merge.files, done.part)
        else:
            self._failed += 1
        self._under_way = False

    def _on_cut(self, merge: Merge, done: Done | None) -> None:
        assert self._cutting is not None
        (ranges, then), self._cutting = self._cutting, None
        gone = False
        if done is not None:
            kept = self.store.numbering.keyed(self._kept(list(merge.files), ranges))
            gone = self.store.drop(merge.files, [replace(done.part, ranges=kept)])
        then(gone)
