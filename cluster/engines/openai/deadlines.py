"""Time limits of many requests at the cost of one timer: a timer for each is a tenth of what a request costs here."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadlines:
    """A limit of ``seconds`` for whatever runs inside ``with deadlines:``, at most one at a time in each task.

    A block that takes too long ends with TimeoutError, late by a twentieth of the limit at most (and a second). Belongs
    to one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._open: dict[asyncio.Task[object], float] = {}
        """In the order of their deadlines, as all have the same limit."""
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None and task not in self._open
        self._open[task] = self._loop.time() + self.seconds
        if self._timer is None:
            self._look_later()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.pop(task, None)
        if self._late and task in self._late:
            self._late.discard(task)
            # if somebody else cancelled the task at the same time, that cancellation stands
            if task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError from error

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(min(1.0, self.seconds / 20), self._look)

    def _look(self) -> None:
        self._timer, now = None, self._loop.time()
        while self._open and (task := next(iter(self._open))) and self._open[task] <= now:
            del self._open[task]
            self._late.add(task)
            task.cancel()
        if self._open:
            self._look_later()
