"""Which file of a store holds which ranges, as one table over all files, in the order of problems and indices."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from cluster.storage.ranges import Ints, Ranges

MOST_YOUNG = 20_000
"""How many ranges may be kept beside the sorted table before they are merged into it (or an eighth of all)."""


class FileTable:
    """The files of a store, by name, in the order in which they were met.

    What was added lately is kept apart, so that a commit doesn't copy what is known of a whole store.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._next = 0
        self._old, self._young = _Sorted(), _Sorted()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, files: Mapping[str, Ranges]) -> None:
        """Take files in with what they hold."""
        for name, ranges in files.items():
            self._names[name] = self._next
            self._young = self._young.joined(_Sorted(ranges, np.full(len(ranges), self._next, np.int32)))
            self._next += 1
        if len(self._young.ranges) > max(MOST_YOUNG, len(self._old.ranges) // 8):
            self._old, self._young = self._old.joined(self._young), _Sorted()

    def remove(self, names: Collection[str]) -> Ranges:
        """Forget files; return what they held."""
        if not names:
            return Ranges.none()
        numbers = [self._names.pop(name) for name in names]
        gone = Ranges.joined(part.of(numbers) for part in (self._old, self._young))
        self._old, self._young = self._old.without(numbers), self._young.without(numbers)
        return gone

    def of(self, name: str) -> Ranges:
        """Return what a file holds."""
        return Ranges.joined(part.of([self._names[name]]) for part in (self._old, self._young))

    def of_problems(self, numbers: Ints) -> Ranges:
        """Return what all files hold of some problems."""
        parts = (part.ranges for part in (self._old, self._young))
        return Ranges.joined(ranges[np.isin(ranges.numbers, numbers)] for ranges in parts)

    def holding(self, ranges: Ranges) -> list[str]:
        """Return the names of the files that hold any sample of ``ranges``, sorted."""
        found = self._old.holding(ranges) | self._young.holding(ranges)
        return sorted(name for name, number in self._names.items() if number in found)


class _Sorted:
    """Ranges in order, each with the number of its file. They are disjoint, unless a store is damaged."""

    def __init__(self, ranges: Ranges | None = None, file: NDArray[np.int32] | None = None) -> None:
        self.ranges = Ranges.none() if ranges is None else ranges
        self.file = np.empty(0, np.int32) if file is None else file
        ends = self.ranges.ends
        self._overlaps = bool((self.ranges.starts[1:] < ends[:-1]).any())

    def joined(self, other: _Sorted) -> _Sorted:
        ranges = Ranges.joined([self.ranges, other.ranges])
        order = np.argsort(ranges.starts, kind="stable")
        return _Sorted(ranges[order], np.concatenate([self.file, other.file])[order])

    def of(self, numbers: list[int]) -> Ranges:
        return self.ranges[np.isin(self.file, numbers)]

    def without(self, numbers: list[int]) -> _Sorted:
        left = ~np.isin(self.file, numbers)
        return _Sorted(self.ranges[left], self.file[left])

    def holding(self, ranges: Ranges) -> set[int]:
        """Return the numbers of the files that hold any sample of ``ranges``."""
        ranges = ranges[ranges.sizes > 0]
        high = np.searchsorted(self.ranges.starts, ranges.ends)
        if self._overlaps:
            reach = np.maximum.accumulate(self.ranges.ends)
            low = np.searchsorted(reach, ranges.starts, side="right")
        else:
            low = np.maximum(np.searchsorted(self.ranges.starts, ranges.starts, side="right") - 1, 0)
        counts = np.maximum(high - low, 0)
        row = np.repeat(np.arange(len(ranges)), counts)
        at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + low[row]
        touches = self.ranges.starts[at] + self.ranges.sizes[at] > ranges.starts[row]
        return set(np.unique(self.file[at[touches]]).tolist())
