"""llama.cpp's slots: who decodes where, and which prompt each slot still holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path


class Wanted:
    """A prompt that requests want or work on; they compute it once, and copy it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.copied = False
        self.lock = asyncio.Lock()


class Slots:
    """llama.cpp's slots, and which prompt each of them holds. First come, first served."""

    def __init__(self, slots: int, copies: Path) -> None:
        self.holds: dict[int, str] = {}
        self.wanted: dict[str, Wanted] = {}
        self._free = list(range(slots))
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._copies, self._names = copies, count()

    @contextlib.asynccontextmanager
    async def taken(self, prompt: str) -> AsyncIterator[int]:
        """Hold a slot: if there is a choice one that has the prompt, or else one whose prompt nobody wants."""
        wanted = self.wanted.setdefault(prompt, Wanted(f"{next(self._names)}"))
        wanted.requests += 1
        try:
            slot = await self._take(prompt)
            try:
                yield slot
            finally:
                self._give(slot)
        finally:
            wanted.requests -= 1
            if not wanted.requests:
                del self.wanted[prompt]
                (self._copies / wanted.name).unlink(missing_ok=True)

    async def _take(self, prompt: str) -> int:
        if self._free:
            held = {slot: self.holds.get(slot) for slot in self._free}
            slot = max(self._free, key=lambda slot: (held[slot] == prompt, held[slot] not in self.wanted))
            self._free.remove(slot)
            return slot
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(turn.result())
            raise

    def _give(self, slot: int) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(slot)
                return
        self._free.append(slot)
