"""Memory that isn't used goes back to the system.

Every task makes tables of some megabytes and forgets them. Arrow's own allocator keeps what it once had, a hundred
megabytes a process, and the C library keeps up to 64 MB for each thread that ever allocated; beside many workers that
is memory which nobody has. So Arrow allocates from the C library, and all threads share two of its areas.
"""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's mallopt(3)."""


def keep_little() -> None:
    """Set this process's allocators so; called once, before there are threads."""
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has areas by thread
        if mallopt is not None:
            mallopt(_ARENA_MAX, 2)
