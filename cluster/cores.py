"""How many cores this process may use for the tools of its operators: all of the machine's, unless it is told."""

from __future__ import annotations

import os

_share: int | None = None


def take_share(cores: int) -> None:
    """Say that this process has so many cores to itself, as a task of a cluster has: others use the rest."""
    global _share
    _share = cores


def usable() -> int:
    """Return the number of cores this process may use."""
    everywhere = os.cpu_count() or 1
    return max(1, _share or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everywhere))
