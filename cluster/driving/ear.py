"""The ear: looks for orders in a thread of its own, so that a run hears within seconds whatever its loop is doing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from cluster.records.orders import take
from cluster.storage.root import Root
from schemas.errors import GristmillError
from schemas.orders import Order

LOCAL_SECONDS = 0.5
REMOTE_SECONDS = 2.0
JOIN_SECONDS = 10.0
"""How long it is waited for a look that is under way when no more are wanted."""


class Ear:
    """Looks for orders from ``start`` to ``stop``; what it heard waits for the driver's loop.

    Args:
        seconds: between two looks; by default what suits the root, always less than five.
    """

    def __init__(self, root: Root, run_id: str, seconds: float | None = None) -> None:
        self.root = root
        self.run_id = run_id
        self.seconds = seconds or (LOCAL_SECONDS if root.is_local else REMOTE_SECONDS)
        self._heard: queue.SimpleQueue[Order | str] = queue.SimpleQueue()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="gristmill-ear", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and wait for a look that is under way; where that takes long, it may still hear something."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)

    def heard(self) -> Iterator[Order | str]:
        """Yield orders that nobody has dealt with, in the order in which they came; a damaged one as a sentence."""
        while True:
            try:
                yield self._heard.get_nowait()
            except queue.Empty:
                return

    def _listen(self) -> None:
        while not self._end.wait(self.seconds):
            try:
                found = take(self.root, self.run_id, self._end.is_set)
            except (GristmillError, OSError):  # the storage is away: the loop learns of that by itself
                continue
            if found is not None:
                self._heard.put(found)
