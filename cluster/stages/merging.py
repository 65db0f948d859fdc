"""Merging: the small files of a store become large ones while a run goes on, one merge at a time."""

from __future__ import annotations

from cluster.storage.store import Store
from cluster.working.compaction import Merge, next_merge
from cluster.working.work import Done

FAILED_MERGES = 3
"""After so many failed merges of a store a run leaves its small files as they are."""


class Merging:
    """The merges of one store that a run writes."""

    def __init__(self, store: Store, stage: str) -> None:
        self.store = store
        self._stage = stage
        self._under_way = False
        self._failed = 0

    def next(self, number: int) -> Merge | None:
        """Return a merge that is due; None where the store is tidy, or one is under way."""
        store = self.store
        if self._under_way or store.lease is None:
            return None
        names = next_merge(store.sizes)
        if not names or store.root.free_bytes() < 4 * sum(store.sizes[name] for name in names):
            return None  # the old files stay until they are vacuumed, and samples need the space more
        self._under_way = True
        rows = sum(store.rows[name] for name in names)
        return Merge(number, self._stage, store.root.url, store.folder, store.contract, tuple(names), rows)

    def on_merged(self, merge: Merge, done: Done | None) -> None:
        """Commit a merge; None where it failed: it isn't needed, and after a few failures this run tries no more."""
        if done is not None:
            self.store.replace(merge.files, done.part)
        else:
            self._failed += 1
        self._under_way = self._failed >= FAILED_MERGES
