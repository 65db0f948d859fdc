"""One sandbox: how it is started, given a job and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import subprocess
import time
from dataclasses import replace
from typing import Any

from cluster.sandbox import bubblewrap, memory_group
from cluster.sandbox.inside.frames import Frames
from cluster.sandbox.messages import messages, runs, runs_in_one, wanted
from cluster.sandbox.system_calls import number, profiles
from cluster.tools.cores import give_way
from operators.sandbox import Job, Limits, Mounts, Outcome
from schemas.errors import BadInput
from schemas.unicode import whole

START_SECONDS = 30.0
GRACE = 8.0
"""Seconds beyond those that a sandbox itself waits, after which it is given up."""
ROOM = 2
"""Files' shares that a program's control group has beside its memory: what it writes to /tmp and to /dev/shm."""
GONE = 5.0
"""Seconds to wait for the end of what was killed."""
ENDED_FIRST = "500"
"""What the kernel adds to a program's score when it looks for a process to end for want of memory; the most is 1000."""
JOIN_SESSION_KEYRING = 1
"""Of keyctl(2): without a name, a new and empty one."""
_system_call = ctypes.CDLL(None).syscall  # looked up beforehand: between fork and exec no lock may be waited for


class Cell:
    """One sandbox and its first process."""

    def __init__(
        self, command: list[str], common: dict[str, Any], passed: tuple[int, ...], env: dict[str, str]
    ) -> None:
        """Start it.

        Args:
            command: of its first process.
            common: what that process needs for every job.
            passed: descriptors that it inherits.
            env: its environment.
        """
        join = number("keyctl") if passed else -1
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            pass_fds=passed,
            preexec_fn=lambda: _leave(join),
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._frames = Frames(self._process.stdout.fileno(), self._process.stdin.fileno())
        self._fresh = True
        self._common = common

    def run(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        most = limits.seconds * runs(job)
        until = time.monotonic() + most + GRACE + (START_SECONDS if self._fresh else 0.0)
        if self._fresh:
            self._frames.send(self._common)
        told, kept = messages(job)
        limited = {**limits.model_dump(), "cpu_seconds": limits.cpu_seconds * runs_in_one(job)}
        shared = {"limits": limited, "packages": wanted(job, mounts), "most_seconds": most}
        self._frames.send({**shared, **told})
        self._frames.send(kept)
        answer: dict[str, Any] = self._frames.receive(until)
        self._fresh = False
        if answer["status"] == "broken":
            raise BadInput(bubblewrap.MISSING.format(why=answer["detail"]))
        texts = {name: whole(value) for name, value in answer.items() if isinstance(value, str)}
        return Outcome(**{**answer, **texts})

    def last_words(self) -> str:
        """Return what it said on stderr, if it is gone."""
        self._process.kill()
        assert self._process.stderr is not None
        words = self._process.stderr.read(2000).decode(errors="replace").strip()
        return f": {words.splitlines()[-1]}" if words else ""

    def close(self) -> None:
        """End it, and with it all processes in it."""
        self._process.kill()
        assert self._process.stdout is not None
        # what is inside ends a moment after bubblewrap: its end of the pipe is closed then
        pipe = self._process.stdout.fileno()
        while select.select([pipe], [], [], GONE)[0] and os.read(pipe, 1 << 16):
            pass
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()


class Bare(Cell):
    """No sandbox, where a user insists: programs have limits and nothing else."""

    def __init__(self) -> None:
        super().__init__(bubblewrap.bare_command(), {"door": None}, (), bubblewrap.environment())


class Walled(Cell):
    """A sandbox of bubblewrap's, with a control group where there can be one."""

    def __init__(self, mounts: Mounts) -> None:
        self._group = group = memory_group.make()
        outer, inner = profiles(counted=group is not None)
        read, write = os.pipe()
        try:
            with os.fdopen(write, "wb") as file:
                file.write(outer)  # less than a pipe holds
            door = None if group is None else group.door
            command = bubblewrap.command(mounts, read, counted=group is not None)
            passed = (read,) if door is None else (read, door)
            super().__init__(command, {"door": door, "profile": inner.hex()}, passed, {})
        except BaseException:
            if group is not None:
                group.remove()
            raise
        finally:
            os.close(read)

    def run(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        if self._group is None:
            return super().run(job, limits, mounts)
        self._group.limit((limits.memory_mb + ROOM * limits.files_mb << 20) + memory_group.OWN)
        ended = self._group.ended()
        outcome = super().run(job, limits, mounts)
        if outcome.status in ("failed", "timeout") and self._group.ended() > ended:
            return replace(outcome, status="failed", detail=f"more than {limits.memory_mb} MB of memory")
        return outcome

    def close(self) -> None:
        super().close()
        if self._group is not None:
            self._group.remove()


def _leave(keyctl: int) -> None:
    """In what is to become a sandbox: let engines go first and live longest, and leave the user's keys (a new session
    keyring).

    Args:
        keyctl: the number of this system call; below 0: stay with the keys. Where it is refused (in some containers, or
            by a kernel without keys), the profiles of system calls still keep programs from it.
    """
    give_way()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(ENDED_FIRST)
    if keyctl >= 0:
        _system_call(keyctl, JOIN_SESSION_KEYRING, None)
