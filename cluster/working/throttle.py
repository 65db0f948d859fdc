"""A throttle before an engine: how many of its calls may be under way at once, changed while they go on."""

from __future__ import annotations

import asyncio
from collections import deque


class Throttle:
    """Lets calls by, in the order in which they came; all of them while ``most`` is None.

    Whoever found it ``free``, or has waited, adds one to ``under_way`` at once, and calls ``leave`` in the end.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self.under_way = 0
        self._called = 0
        """Places that are kept for those who were called and haven't come yet: whoever comes by doesn't get them."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def set(self, most: int | None) -> None:
        """Change how many may be under way; those that are finish."""
        self.most = most
        self._let_by()

    @property
    def free(self) -> bool:
        """Whether a call need not wait."""
        return self.most is None or (self.under_way + self._called < self.most and not self._waiting)

    async def wait(self) -> None:
        """Wait for a place."""
        add = self._waiting.append
        while True:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            add(place)
            try:
                await place
            except asyncio.CancelledError:
                if place in self._waiting:
                    self._waiting.remove(place)
                elif not place.cancelled():  # it was called, and another can have the place
                    self._called -= 1
                self._let_by()
                raise
            self._called -= 1
            if self.most is None or self.under_way < self.most:
                return
            add = self._waiting.appendleft  # fewer may be under way than when it was called

    def leave(self) -> None:
        """Give a place back."""
        self.under_way -= 1
        self._let_by()

    def _let_by(self) -> None:
        """Call as many as there are places for."""
        places = len(self._waiting) if self.most is None else self.most - self.under_way - self._called
        while self._waiting and places > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._called += 1
                places -= 1
