"""Peak memory of a process tree, sampled from /proc while something runs (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

SECONDS_BETWEEN_LOOKS = 0.2


class PeakMemory:
    """Samples PSS (each page shared by k processes counts 1/k) of a process and its descendants, in bytes.

    Attributes:
        total: the largest sum over all processes at one time.
        by_process: command -> the largest PSS of any one process of that name; object stores (shared memory) apart.
    """

    def __init__(self, pid: int | None = None) -> None:
        self.pid = pid or os.getpid()
        self.total = 0
        self.by_process: dict[str, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._look()
            if self._end.wait(SECONDS_BETWEEN_LOOKS):
                return

    def _look(self) -> None:
        total = 0
        for pid in descendants(self.pid):
            private = pss(pid)
            total += private
            name = command(pid)
            self.by_process[name] = max(self.by_process.get(name, 0), private)
        self.total = max(self.total, total)


def pss(pid: int) -> int:
    """Return a process's PSS in bytes, shared memory (an object store's) left out; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return found.get("Pss", 0) - found.get("Pss_Shmem", 0)


def command(pid: int) -> str:
    """Return a short name of what a process runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "gone"
    name = Path(words[0].split()[0]).name if words and words[0] else "unknown"
    return words[0].split("(")[0] if words[0].startswith("ray::") else name


def descendants(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        queue += parents.get(current, [])
    return found
