"""The turnstile: so many calls at an engine at once, and of those that wait the oldest episode's first.

Episodes ask in groups and wait for whole groups; served in the order of their age they end one after the other, which
frees money and memory. Plain sampling needs none of it: there every call is a draw of its own.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class Turnstile:
    """Lets ``places`` calls through at once."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside = 0
        self.on_enter: Callable[[int], None] = lambda _: None
        """Called with the rank of each call that comes."""
        self.on_leave: Callable[[], None] = lambda: None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @property
    def load(self) -> int:
        """Calls inside, and those that wait."""
        return self.inside + len(self._waiting)

    async def enter(self, rank: int) -> None:
        """Wait for a place.

        Args:
            rank: of those that wait, smaller ones are let in first.
        """
        self.on_enter(rank)
        if self.inside < self.places and not self._waiting:
            self.inside += 1
            return
        entry = (rank, next(self._numbers), asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, entry)
        try:
            await entry[2]
        except asyncio.CancelledError:
            if entry[2].done() and not entry[2].cancelled():
                self.leave()
            else:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise

    def leave(self) -> None:
        """Give the place to whoever is next."""
        if self._waiting:
            heapq.heappop(self._waiting)[2].set_result(None)
        else:
            self.inside -= 1
        self.on_leave()
