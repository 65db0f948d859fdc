"""What a program's processes use together, as the first process of a sandbox sees them from outside."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import Any

PAGE = resource.getpagesize()
SHARED = 1 << 20
"""Bytes that a piece of shared anonymous memory counts for: most of it may be mapped by nobody, and no piece is larger
(the filter of system calls sees to it where no control group counts)."""


def overstepping(limits: dict[str, Any], besides: set[int | None], counted: bool) -> str | None:
    """Return which limit a program's processes are over together; None if none.

    Args:
        besides: processes that /proc shows and that aren't the program's.
        counted: the kernel counts memory that no process maps, so that it needn't be looked for.
    """
    processes = of_program(besides)
    if len(processes) > 4 * limits["processes"]:
        return f"more than {limits['processes']} processes"
    most = limits["memory_mb"] << 20
    resident = {pid: _statm(pid)[1] for pid in processes}
    used = sum(resident.values())
    if used > most:  # what processes share was counted for each of them
        used = sum(_share(pid) for pid in processes)
    if not counted:
        used += _unmapped(processes)
    return f"more than {limits['memory_mb']} MB of memory" if used > most else None


def of_program(besides: set[int | None]) -> list[int]:
    """Return the processes that /proc shows, but for some."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in besides]


def kill_program(besides: set[int | None]) -> None:
    """Kill all processes that /proc shows, but for some."""
    for pid in of_program(besides):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _statm(pid: int) -> tuple[int, int]:
    """Return (bytes that a process has reserved, those that are in memory); nothing of one that is gone."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
        size, resident = file.read().split()[:2]
        return int(size) * PAGE, int(resident) * PAGE
    return 0, 0


def _share(pid: int) -> int:
    """Return a process's memory, with its part of what it shares (PSS); all of it for one that lets nobody look."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(("Pss:", "SwapPss:")))
    return _statm(pid)[1]


def _unmapped(processes: list[int]) -> int:
    """Return the most bytes of shared anonymous memory that may be kept though no process maps them any more."""
    pieces: set[str] = set()
    used = 0
    for pid in processes:
        try:
            with open(f"/proc/{pid}/maps") as file:
                pieces |= {line.split(maxsplit=5)[4] for line in file if "/dev/zero" in line}
        except OSError:  # gone, or lets nobody look: then all that it has reserved
            used += _statm(pid)[0]
    return used + len(pieces) * SHARED
