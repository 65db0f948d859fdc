"""A control group (cgroups) of one sandbox's programs: the kernel counts their memory, shared or not, and ends them.

A group is made below this process's own where that may be (root; a unit of systemd's with ``Delegate=yes``; version 1
where the controller of memory is there). Programs enter it by themselves, through a descriptor that was opened here:
the kernel asks who opened it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from functools import cache
from pathlib import Path

NAME = "gristmill-sandbox"
OWN = 32 << 20
"""Bytes that the kernel needs for a program: page tables, sockets, pipes."""
GONE = 2.0
"""Seconds that a group may still be in use after its processes' end."""
UNCOUNTED = (
    "no control group counts the memory of programs here ({why}), so it is what their processes are seen to use every "
    "20 ms. They have no memfd_create, no shared memory of System V and no /dev/zero, and share anonymous memory in "
    "pieces of 1 MB at most; what the kernel needs for their sockets and pipes isn't counted"
)
"""What is weaker without."""
_numbers = itertools.count()


class MemoryGroup:
    """The group of one sandbox's programs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._size = 0
        self._v2 = (folder / "memory.max").exists()
        with contextlib.suppress(OSError):
            (folder / "memory.oom.group").write_text("1")
        self.door = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        """A descriptor; whoever writes "0" to it enters."""

    def limit(self, size: int) -> None:
        """Let the programs use so many bytes together, and none that are swapped out."""
        if size == self._size:
            return
        self._size = size
        if self._v2:
            self._write("memory.swap.max", "0")
            (self._folder / "memory.max").write_text(str(size))
            return
        self._write("memory.force_empty", "0")  # what the last one read of files
        self._write("memory.memsw.limit_in_bytes", "-1")  # never below the other
        (self._folder / "memory.limit_in_bytes").write_text(str(size))
        self._write("memory.memsw.limit_in_bytes", str(size))

    def ended(self) -> int:
        """Return how many processes the kernel has ended in it so far for want of memory."""
        text = (self._folder / ("memory.events" if self._v2 else "memory.oom_control")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def remove(self) -> None:
        """Remove it, once nothing is in it any more."""
        os.close(self.door)
        until = time.monotonic() + GONE
        while True:
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() > until:
                    return  # the next process that makes groups removes it
                time.sleep(0.005)
            else:
                return

    def _write(self, name: str, text: str) -> None:
        with contextlib.suppress(OSError):  # kernels without swap accounting have no such file
            (self._folder / name).write_text(text)


def make() -> MemoryGroup | None:
    """Return a new group; None where there can't be one (see ``uncounted``)."""
    parent = _parent()
    if isinstance(parent, str):
        return None
    folder = parent / f"{NAME}-{os.getpid()}-{next(_numbers)}"
    try:
        folder.mkdir()
        return MemoryGroup(folder)
    except OSError:
        return None


def uncounted() -> str | None:
    """Return what is weaker here, for want of control groups; None if nothing is."""
    parent = _parent()
    return UNCOUNTED.format(why=parent) if isinstance(parent, str) else None


@cache
def _parent() -> Path | str:
    """Return the folder to make groups in, or why there is none. What dead processes left there is removed."""
    why = "the kernel has none that counts memory"
    for place in candidates(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()):
        why = f"{place} can't be written to, or passes no memory on"
        if (place / "cgroup.subtree_control").exists() and not _passes_on(place):
            continue
        trial = place / f"{NAME}-{os.getpid()}-trial"
        try:
            trial.mkdir()
        except OSError:
            continue
        usable = (trial / "memory.max").exists() or (trial / "memory.limit_in_bytes").exists()
        trial.rmdir()
        if usable:
            tidy(place)
            return place
    return why


def _passes_on(place: Path) -> bool:
    """Whether a group of version 2 gives its children the controller of memory; if it may, from now on."""
    control = place / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        if "memory" not in control.read_text().split():
            control.write_text("+memory")
    return "memory" in control.read_text().split()


def tidy(place: Path) -> None:
    """Remove groups of processes that are gone."""
    for left in place.glob(f"{NAME}-*"):
        pid = left.name.removeprefix(f"{NAME}-").partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):  # something is in it
                left.rmdir()


def candidates(own: str, mounts: str) -> list[Path]:
    """Return the folders that a group could be made in, the likeliest first: this process's own, then those above.

    Args:
        own: the text of /proc/self/cgroup.
        mounts: the text of /proc/self/mountinfo.
    """
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(",") if controllers else [""]:
            paths[controller] = path
    found: list[Path] = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, at = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        name = "" if kind == "cgroup2" else "memory"
        if kind not in ("cgroup", "cgroup2") or name not in paths or (name and name not in options.split(",")):
            continue
        below = os.path.relpath(paths[name], root)
        if below.startswith(".."):
            continue  # not below what is mounted
        top, place = Path(at), Path(at, below)
        found += [place, *(above for above in place.parents if above.is_relative_to(top))][: 1 if name else None]
    return found
