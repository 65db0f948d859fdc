"""Which file of a store holds which ranges, as one table over all files, in the order of problems and indices."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from cluster.storage.ranges import Ints, Ranges


class FileTable:
    """The files of a store, by name, in the order in which they were met."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._next = 0
        self._ranges = Ranges.none()
        self._file = np.empty(0, np.int32)
        self._reach: Ints = np.empty(0, np.int64)
        """The furthest end of all ranges up to each; they are disjoint, unless a store is damaged."""

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, files: Mapping[str, Ranges]) -> None:
        """Take files in with what they hold."""
        numbers: list[np.ndarray] = [self._file]
        for name, ranges in files.items():
            self._names[name] = self._next
            numbers.append(np.full(len(ranges), self._next, np.int32))
            self._next += 1
        self._set(Ranges.joined([self._ranges, *files.values()]), np.concatenate(numbers))

    def remove(self, names: Collection[str]) -> Ranges:
        """Forget files; return what they held."""
        if not names:
            return Ranges.none()
        gone = np.isin(self._file, [self._names.pop(name) for name in names])
        ranges = self._ranges[gone]
        self._set(self._ranges[~gone], self._file[~gone])
        return ranges

    def _set(self, ranges: Ranges, file: np.ndarray) -> None:
        order = np.argsort(ranges.starts, kind="stable")
        self._ranges, self._file = ranges[order], file[order]
        self._reach = np.maximum.accumulate(self._ranges.ends) if len(ranges) else np.empty(0, np.int64)

    def of(self, name: str) -> Ranges:
        """Return what a file holds."""
        return self._ranges[self._file == self._names[name]]

    def of_problems(self, numbers: Ints) -> Ranges:
        """Return what all files hold of some problems."""
        return self._ranges[np.isin(self._ranges.numbers, numbers)]

    def holding(self, ranges: Ranges) -> list[str]:
        """Return the names of the files that hold any sample of ``ranges``, sorted."""
        ranges = ranges[ranges.sizes > 0]
        low = np.searchsorted(self._reach, ranges.starts, side="right")
        high = np.searchsorted(self._ranges.starts, ranges.ends)
        counts = np.maximum(high - low, 0)
        row = np.repeat(np.arange(len(ranges)), counts)
        at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + low[row]
        touches = self._ranges.ends[at] > ranges.starts[row]
        found = set(np.unique(self._file[at[touches]]).tolist())
        return sorted(name for name, number in self._names.items() if number in found)
