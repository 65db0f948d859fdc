"""A pool of sandboxes: each runs one program at a time, and is replaced when it breaks."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

from cluster.sandbox import bubblewrap
from cluster.sandbox.inside.frames import Closed, Frames, TooSlow
from cluster.sandbox.inside.values import encode
from cluster.tools.alone import Alone, was_kept_waiting
from cluster.tools.cores import give_way, usable
from operators.sandbox import CallsJob, CasesJob, CheckJob, CommandJob, Job, Limits, Mounts, Outcome
from schemas.errors import BadInput
from schemas.unicode import whole

START_SECONDS = 30.0
GRACE = 8.0
"""Seconds beyond those that a sandbox itself waits, after which it is given up."""
GONE = 5.0
"""Seconds to wait for the end of what was killed."""
PRELUDE = """
import bisect, collections, copy, datetime, functools, heapq, io, itertools, json, math, operator, random, re
import statistics, string, sys, time, typing
from string import *
from re import *
from datetime import *
from collections import *
from heapq import *
from bisect import *
from copy import *
from math import *
from random import *
from statistics import *
from itertools import *
from functools import *
from operator import *
from typing import *
from builtins import *
import datetime, copy, bisect
"""
"""What programs that are called find imported: their sites do so, and their writers rely on it."""
NOTHING = CheckJob("", "")
"""Passes wherever there is a sandbox: after a job that broke two, it tells which of both is to blame."""


class SandboxPool:
    """Runs jobs in ``cells`` sandboxes, started when first needed. Safe to use from several threads."""

    def __init__(self, cells: int, unsafe: bool = False) -> None:
        self.cells = cells
        self.unsafe = unsafe
        self._idle: dict[Mounts, list[_Cell]] = {}
        self._lock = threading.Lock()
        self._alone = Alone()
        # a sandbox ends with the thread that started it, so threads live as long as the pool
        self._threads = ThreadPoolExecutor(cells, thread_name_prefix="sandbox")

    def __enter__(self) -> SandboxPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, jobs: Sequence[Job], limits: Limits, mounts: Mounts) -> list[Outcome]:
        """Return an outcome for each job; see operators.sandbox.Sandbox."""
        running = [self._threads.submit(self._together, job, limits, mounts) for job in jobs]
        try:
            outcomes = [one.result() for one in running]
        finally:
            for one in running:  # after an error the others stop, too
                one.cancel()
            wait(running)
        return [
            self._threads.submit(self._once_more, job, limits, mounts).result()
            if outcome.status == "timeout" and was_kept_waiting(outcome.waited, limits.seconds)
            else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    def _together(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        with self._alone.together():
            return self._one(job, limits, mounts)

    def _once_more(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        with self._alone.alone():
            return self._one(job, limits, mounts)

    def _one(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        """Run one job; a second time where it broke the sandbox.

        Raises:
            BadInput: sandboxes break here even without a program that breaks them.
        """
        why = ""
        for tried in (job, job, NOTHING):
            cell = self._take(mounts)
            try:
                outcome = cell.run(tried, limits, mounts)
            except (Closed, TooSlow, OSError) as error:
                why = why or f"the sandbox broke ({type(error).__name__}{cell.last_words()})"
                cell.close()
            except BaseException:
                cell.close()
                raise
            else:
                self._give(mounts, cell)
                return outcome if tried is job else Outcome("failed", why)
        raise BadInput(bubblewrap.MISSING.format(why=why))

    def _take(self, mounts: Mounts) -> _Cell:
        with self._lock:
            idle = self._idle.get(mounts, [])
            if idle:
                return idle.pop()
        return _Cell(bubblewrap.bare_command() if self.unsafe else bubblewrap.command(mounts), self.unsafe)

    def _give(self, mounts: Mounts, cell: _Cell) -> None:
        """Keep a sandbox for the next job; of more than ``cells`` idle ones, one of other mounts is closed."""
        with self._lock:
            self._idle.setdefault(mounts, []).append(cell)
            others = [cells for kept, cells in self._idle.items() if kept != mounts and cells]
            many = sum(map(len, self._idle.values())) > self.cells
            old = others[0].pop() if many and others else None
        if old is not None:
            old.close()

    def check(self) -> None:
        """Run a program that does nothing.

        Raises:
            BadInput: it can't be run; says what is missing.
        """
        [outcome] = self.run([NOTHING], Limits(), Mounts())
        if outcome.status != "passed":
            raise BadInput(bubblewrap.MISSING.format(why=outcome.detail or outcome.status))

    def close(self) -> None:
        """End all sandboxes."""
        with self._lock:
            cells, self._idle = [cell for cells in self._idle.values() for cell in cells], {}
        for cell in cells:
            cell.close()
        self._threads.shutdown(wait=False)


class _Cell:
    """One sandbox and its first process."""

    def __init__(self, command: list[str], unsafe: bool) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=bubblewrap.environment() if unsafe else {},
            preexec_fn=give_way,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._frames = Frames(self._process.stdout.fileno(), self._process.stdin.fileno())
        self._fresh = True

    def run(self, job: Job, limits: Limits, mounts: Mounts) -> Outcome:
        most = limits.seconds * _runs(job)
        until = time.monotonic() + most + GRACE + (START_SECONDS if self._fresh else 0.0)
        told, kept = _messages(job)
        limited = {**limits.model_dump(), "cpu_seconds": limits.cpu_seconds * _runs_in_one(job)}
        shared = {"limits": limited, "packages": _wanted(job, mounts), "most_seconds": most}
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


class _Data:
    """The side of what is only data: arguments of calls, whose keys may be numbers."""

    def keep(self, value: Any) -> dict[str, Any]:
        raise TypeError(f"{type(value).__name__} can't be given to a sandbox")

    def kept(self, data: dict[str, Any]) -> Any:
        return None

    def named(self, name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
        return tuple

    def array(self, array: Any) -> Any:
        return array


_DATA = _Data()


def _runs(job: Job) -> int:
    """Return how many times the limit in seconds applies."""
    if isinstance(job, CasesJob):
        return len(job.cases) + bool(job.language is not None and job.language.compile)
    if isinstance(job, CheckJob):
        return 3 if job.probe else 1
    return 1 + len(job.calls) if isinstance(job, CallsJob) else 1


def _runs_in_one(job: Job) -> int:
    """Return how many of these runs one process makes."""
    return _runs(job) if isinstance(job, CallsJob) else 1


def _messages(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the program's own process may know, and what it mustn't."""
    match job:
        case CheckJob():
            told = {"kind": "check", "program": job.program, "entry_point": job.entry_point, "prelude": ""}
            return told, {"tests": job.tests, "prefix": job.prefix, "probe": job.probe}
        case CallsJob():
            about = {"fn_name": job.fn_name, "class_name": job.class_name}
            told = {"kind": "calls", "program": job.program, "entry_point": None, "prelude": PRELUDE, **about}
            calls = encode([call.model_dump() for call in job.calls], _DATA)
            return told, {"calls": calls, "tolerance": job.tolerance}
        case CasesJob():
            language = None if job.language is None else job.language.model_dump()
            cases = [case.model_dump() for case in job.cases]
            told = {"kind": "cases", "program": job.program, "language": language}
            return told, {"cases": cases, "tolerance": job.tolerance}
        case CommandJob():
            return {"kind": "command"}, {"command": job.command, "files": job.files, "stdin": job.stdin}


def _wanted(job: Job, mounts: Mounts) -> list[str]:
    """Return the packages that a job's program or tests seem to import, to be loaded beforehand."""
    texts = [getattr(job, name, "") for name in ("program", "tests", "prefix")]
    return [name for name in mounts.packages if any(name in text for text in texts)]


@cache
def shared_sandbox(unsafe: bool) -> SandboxPool:
    """Return this process's own pool, closed at exit."""
    pool = SandboxPool(usable(), unsafe)
    atexit.register(pool.close)
    return pool
