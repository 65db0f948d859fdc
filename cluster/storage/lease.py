"""Leases: who is writing something, until when, and in which epoch.

A lease is a small file that its holder renews. It tells others whether to keep off; that they *can't* write is seen to
by the store, whose commits carry the epoch (``cluster.storage.store``). A holder on this machine whose process is gone
holds nothing, so a run that was killed is started again at once; elsewhere its lease has to lapse.

Clocks of two machines differ, and one may jump. So nobody takes another's word for a time: a lease has lapsed only for
who has *seen it unchanged* for its length, by a clock of its own that only goes forward. What the wall clock says is a
hint that looking is worth while (``watch``).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr

from cluster.storage.root import Root

LEASE = "_lease.json"
LEASE_SECONDS = 60.0
"""A lease that isn't renewed for so long has lapsed."""
MOST_SEEN = 100_000
"""Of so many leases is remembered since when they are as they are."""
_first_seen: dict[tuple[str, int, str, int, float], float] = {}


def wall() -> float:
    """Return unix seconds, as people and other machines have them: they may jump."""
    return time.time()


def pause(seconds: float) -> None:
    """Wait, while a lease is watched."""
    time.sleep(seconds)


def elapsed() -> float:
    """Return seconds by a clock that only goes forward, also while the machine is asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease(BaseModel):
    """One holder's claim on one folder of the root.

    Attributes:
        epoch: how often the folder's writer has changed; a larger one wins.
        machine, pid, born: the holder's process; ``born`` is its start time in clock ticks since boot.
        seconds: its length.
        expires: unix seconds, by the holder's clock.
        released: the holder is done.
    """

    run_id: str
    epoch: int = 0
    host: str = ""
    machine: str = ""
    pid: int = 0
    born: int = 0
    seconds: float = LEASE_SECONDS
    expires: float = 0.0
    released: bool = False
    _since: float = PrivateAttr(0.0)
    """When this process first saw it as it is."""

    def model_post_init(self, context: Any, /) -> None:
        while len(_first_seen) > MOST_SEEN:
            del _first_seen[next(iter(_first_seen))]
        self._since = _first_seen.setdefault(self.mark, elapsed())

    @property
    def mark(self) -> tuple[str, int, str, int, float]:
        """What changes whenever it is renewed, or taken by another."""
        return self.run_id, self.epoch, self.machine, self.pid, self.expires

    @staticmethod
    def of(run_id: str, epoch: int, seconds: float) -> Lease:
        """Make a lease of this process."""
        pid = os.getpid()
        return Lease(
            run_id=run_id,
            epoch=epoch,
            host=socket.gethostname(),
            machine=_machine(),
            pid=pid,
            born=process_born(pid),
            seconds=seconds,
            expires=wall() + seconds,
        )

    def alive(self) -> bool:
        """Whether somebody may still be writing: it hasn't been seen unchanged for its length."""
        return elapsed() < self._since + self.seconds and self.may_wake()

    def held(self) -> bool:
        """Whether its holder can rely on it. Here the wall clock counts too: it goes on while a machine is paused."""
        return self.alive() and wall() < self.expires

    @property
    def seems_lapsed(self) -> bool:
        """Whether the clock says that its time is over, which another machine's clock may not."""
        return wall() >= self.expires or not self.may_wake()

    def may_wake(self) -> bool:
        """Whether the holder could go on, however long it has slept; a process of this machine that is gone can't."""
        if self.released:
            return False
        return self.machine != _machine() or (self.born != 0 and process_born(self.pid) == self.born)

    def here(self) -> bool:
        """Whether the holder runs on this machine, so that ``alive`` is certain."""
        return self.machine == _machine()

    def describe(self) -> str:
        """Say who holds it, for people."""
        left = max(0.0, self.expires - wall())
        return f"run {self.run_id} (process {self.pid} on {self.host}, lease valid for another {left:.0f} s)"


def watch(read: Callable[[], Lease | None]) -> Lease | None:
    """Return a lease once it is known whether it is alive: one whose time seems to be over is looked at for its length.

    Args:
        read: reads it.
    """
    first = lease = read()
    while lease is not None and first is not None and lease.mark == first.mark:
        if not lease.seems_lapsed or not lease.alive():
            break
        pause(min(1.0, lease.seconds / 10))
        lease = read()
    return lease


def read_lease(root: Root, folder: str, name: str = LEASE) -> Lease | None:
    """Return the lease on a folder, or None where nobody ever had one."""
    if not root.exists(folder, name):
        return None
    return Lease.model_validate_json(root.read_bytes(folder, name))


def write_lease(root: Root, folder: str, lease: Lease, name: str = LEASE) -> None:
    """Publish a lease."""
    root.write_bytes(lease.model_dump_json().encode(), folder, name)


def publish_lease(root: Root, folder: str, lease: Lease) -> None:
    """Publish the lease of a store, unless that isn't there any more."""
    root.check_there(folder)
    write_lease(root, folder, lease)


@cache
def _machine() -> str:
    """Return what tells this boot of this machine (and its process ids' namespace) from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: a lease elsewhere has to lapse, and so has one here
        return f"{socket.gethostname()}/unknown"


def process_born(pid: int) -> int:
    """Return a process's start time in clock ticks since boot; 0 where there is no such process, or it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
