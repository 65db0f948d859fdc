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

SECONDS, SHARE = 2.0, 0.02
"""Between two times at least, and the most of the time that it may take: milliseconds for every 100 MB of a heap."""
_turn = threading.Lock()
_next = 0.0


def give_back() -> None:
    """Give back what is free; does nothing soon after the last time, or where the C library can't."""
    global _next
    if _turn.acquire(blocking=False):
        try:
            if (began := time.monotonic()) >= _next:
                _trim()(0)
                ended = time.monotonic()
                _next = ended + max(SECONDS, (ended - began) / SHARE)
        finally:
            _turn.release()


@functools.cache
def _trim() -> Callable[[int], int]:
    """Return glibc's ``malloc_trim``; other C libraries have none, and need none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", int)
