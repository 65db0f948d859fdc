"""Samples that are drawn by what a problem's first samples showed (``sample.cut``): they wait until those are facts.

So the text of a sample never depends on who was first, or on how the work was cut up. What can never become a fact any
more (a sample that failed for good, a row that no table takes) isn't waited for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster.storage.queue import RangeQueue
from cluster.storage.ranges import Ints, Ranges, RangeSet


class WarmUps:
    """The warm-ups of a stage's problems, and what waits for them.

    Args:
        size: samples of a warm-up, the first of each problem.
        held: what is a fact already.
    """

    def __init__(self, size: int, held: Ranges) -> None:
        self._size = size
        self._known = RangeSet()
        """What is a fact, or never will be one, of the warm-ups."""
        self._behind = RangeQueue()
        self.on_known(held)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._behind)

    def on_known(self, ranges: Ranges) -> None:
        """Hear what became a fact, or was given up."""
        first = ranges.firsts
        early = first < self._size
        sizes = np.minimum(ranges.sizes[early], self._size - first[early]).astype(np.int32)
        self._known.add(Ranges(ranges.starts[early], sizes))

    def forget(self, ranges: Ranges) -> None:
        """Hear what isn't a fact any more, but will be drawn again."""
        self._known.remove(ranges)

    def keep_back(self, ranges: Ranges) -> tuple[Ranges, Ints]:
        """Keep what has to wait; return the rest, and which of ``ranges`` each part of it is of."""
        rows = np.arange(len(ranges))
        inside = np.clip(self._size - ranges.firsts, 0, ranges.sizes)
        parts = Ranges(
            np.stack([ranges.starts, ranges.starts + inside], axis=1).ravel(),
            np.stack([inside, ranges.sizes - inside], axis=1).ravel().astype(np.int32),
        )
        ready = np.stack([np.ones(len(ranges), np.bool_), self._whole(ranges)], axis=1).ravel()
        real = parts.sizes > 0
        self._behind.append(parts[real & ~ready])
        return parts[real & ready], rows.repeat(2)[real & ready]

    def free(self) -> Ranges:
        """Take out what needn't wait any more."""
        waiting = self._behind.ranges
        whole = self._whole(waiting)
        if not whole.any():
            return Ranges.none()
        self._behind = RangeQueue(waiting[~whole])
        return waiting[whole]

    def leave_out(self, numbers: Ints) -> Ranges:
        """Take out what waits of some problems."""
        waiting = self._behind.ranges
        mine = np.isin(waiting.numbers, numbers)
        self._behind = RangeQueue(waiting[~mine])
        return waiting[mine]

    def facts(self, ranges: Ranges, held: RangeSet) -> Ranges:
        """Return the samples that show how some ranges are to be drawn, sorted."""
        numbers = np.unique(ranges.numbers[ranges.firsts + ranges.sizes > self._size])
        return held.present(Ranges.of(numbers, 0, self._size))

    def _whole(self, ranges: Ranges) -> NDArray[np.bool_]:
        """Return which ranges are of problems whose warm-up is there."""
        return self._known.covers(Ranges.of(ranges.numbers, 0, self._size))
