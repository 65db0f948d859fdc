"""Time limits are of work, not of the day's load: what only waited for a core is tried again, once, alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.2
"""Of its time limit: what has waited longer for a core may have been too slow because of others."""


def was_kept_waiting(waited: float, seconds: float) -> bool:
    """Whether something that took longer than ``seconds`` might have been in time on a quiet machine.

    Args:
        waited: seconds that it waited for a core; what sleeps doesn't wait.
    """
    return waited > SHARE * seconds


class Alone:
    """Lets many things be done together, or one of them alone. Who wants to be alone comes before those who come
    later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = self._wanting = 0
        self._alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Be one of many; wait while somebody is alone, or wants to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._wanting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one; wait until the others are done."""
        with self._changed:
            self._wanting += 1
            self._changed.wait_for(lambda: not self._alone and not self._together)
            self._wanting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
