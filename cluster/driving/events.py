"""What the driver's loop hears of: work that is done elsewhere, by any thread, is handled in the loop, in order."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Events:
    """What is to be done in the loop, in the order in which it came."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def when_done(self, future: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        """Queue ``then(future)`` for the loop once ``future`` is done; what it raises ends the run."""
        future.add_done_callback(lambda done: self._queue.put(lambda: then(done)))

    def hear(self, seconds: float) -> None:
        """Handle what happened; wait for it up to ``seconds``."""
        try:
            self._queue.get(timeout=seconds)()
            while True:
                self._queue.get_nowait()()
        except queue.Empty:
            pass
