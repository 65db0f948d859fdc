"""A queue of ranges: whole tables are put in at either end, so many samples are taken out at the front."""

from __future__ import annotations

from collections import deque

from cluster.storage.ranges import Ranges


class RangeQueue:
    """Ranges that wait, in order."""

    def __init__(self, ranges: Ranges | None = None) -> None:
        self._tables: deque[Ranges] = deque()
        self.append(ranges or Ranges.none())

    def __bool__(self) -> bool:
        return bool(self._tables)

    @property
    def ranges(self) -> Ranges:
        """All that waits."""
        return Ranges.joined(self._tables)

    def append(self, ranges: Ranges) -> None:
        """Put ranges behind all others."""
        if ranges:
            self._tables.append(ranges)

    def put_first(self, *tables: Ranges) -> None:
        """Put ranges before all others, in this order."""
        self._tables.extendleft(table for table in reversed(tables) if table)

    def take(self, samples: int) -> Ranges:
        """Take so many samples out at the front."""
        taken: list[Ranges] = []
        while self._tables and samples > 0:
            head, tail = self._tables.popleft().cut(samples)
            taken.append(head)
            samples -= head.total
            self.put_first(tail)
        return Ranges.joined(taken)

    def take_rows(self, count: int) -> Ranges:
        """Take up to so many ranges out at the front."""
        taken: list[Ranges] = []
        while self._tables and count > 0:
            table = self._tables.popleft()
            taken.append(table[:count])
            self.put_first(table[count:])
            count -= len(taken[-1])
        return Ranges.joined(taken)
