"""Freed memory is given back to the system.

The C library keeps the freed pages that lie among others still in use, so a process that goes through a million texts,
few at a time, would grow with every one of them.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable

SECONDS = 2.0
"""Between two times at least: looking through the heap takes some milliseconds for every 100 MB."""
_turn = threading.Lock()
_last = 0.0


def give_back() -> None:
    """Give back what is free; does nothing within ``SECONDS`` of the last time, or where the C library can't."""
    global _last
    if _turn.acquire(blocking=False):
        try:
            if time.monotonic() - _last >= SECONDS:
                _trim()(0)
                _last = time.monotonic()
        finally:
            _turn.release()


@functools.cache
def _trim() -> Callable[[int], int]:
    """Return glibc's ``malloc_trim``; other C libraries have none, and need none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", int)
