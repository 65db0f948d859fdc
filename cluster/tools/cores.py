"""How many cores this process may use for the tools of its operators, and that engines come first on them."""

from __future__ import annotations

import os

NICENESS = 5
_share: int | None = None


def take_share(cores: int) -> None:
    """Say that this process has so many cores to itself, as a task of a cluster has: others use the rest."""
    global _share
    _share = cores


def give_way() -> None:
    """Let engines on the same cores go first, from now on, in this process and those it starts."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def usable() -> int:
    """Return the number of cores this process may use."""
    everywhere = os.cpu_count() or 1
    return max(1, _share or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere))
