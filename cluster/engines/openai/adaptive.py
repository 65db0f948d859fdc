"""How much a server is asked to do at once, learnt from how it answers. No engine's library is needed here."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType

MOMENT = 0.5
"""Seconds in which all refusals count as one."""


class AdaptiveLimit:
    """How many requests may be in flight: additive increase, multiplicative decrease (Chiu & Jain 1989)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lowered = float("-inf")

    async def __aenter__(self) -> None:
        while self.in_flight >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given; somebody else takes it
                raise
        self.in_flight += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def succeeded(self) -> None:
        """Grow by one for every ``limit`` successes."""
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def overloaded(self) -> None:
        """Halve, once for all the refusals of one moment."""
        now = time.monotonic()
        if now - self._lowered > MOMENT:
            self.limit, self._lowered = max(1.0, self.limit / 2), now
