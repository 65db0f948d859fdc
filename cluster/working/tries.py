"""How often something is asked again: a number of tries for what failed, and time for an engine that couldn't.

What wasn't possible just now (``EngineError.busy``) was no try. It is asked again for as long as the engine is waited
for (``Engine.patience``), counted from the first time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable

from operators.engine import EngineError

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Seconds before the second try, and at most; each one waits twice as long."""


class Tries:
    """The tries of one request.

    Args:
        most: how often it is asked again after a fault.
        patience: seconds for which it is asked again while the engine can't.
    """

    def __init__(self, most: int, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = most
        self._patience = patience
        self._clock = clock
        self._pause = FIRST_PAUSE
        self._since: float | None = None

    def again(self, error: EngineError) -> float | None:
        """Return after how many seconds to ask again; None where the fault is final."""
        if not error.transient:
            return None
        if error.busy:
            now = self._clock()
            self._since = now if self._since is None else self._since
            if now - self._since < self._patience:
                return 0.0  # the engine itself knows when the next request may go
        if not error.served or not self._left:
            return None  # it was waited for already
        self._left -= 1
        pause, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return pause * (0.5 + random.random())


class Waiting:
    """Since when an engine couldn't serve what somebody else asks again (each try has to be paid for first)."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._since: dict[Hashable, float] = {}

    def goes_on(self, name: Hashable, error: EngineError) -> bool:
        """Whether a request is still to be waited for."""
        if not error.busy:
            return False
        if not error.served:
            return True  # it wasn't even asked
        now = self._clock()
        return now - self._since.setdefault(name, now) < self._patience

    def over(self, name: Hashable) -> None:
        """Note that it was served."""
        self._since.pop(name, None)
