"""The warm interpreter inside a sandbox: reads jobs from its standard input, forks, writes what came of them.

It never executes anything of a program's or of its tests'.
"""

from __future__ import annotations

# what programs import most: loaded once here, there already in every fork
import array
import ast
import bisect
import collections
import copy
import functools
import gc
import heapq
import itertools
import math
import operator
import os
import random
import re
import select
import string
import sys
import time
import typing
from types import NoneType
from typing import Any

from . import isolate, tester, usage
from .frames import Closed, Frames, Malformed, TooLarge, TooSlow
from .program import PACKAGES, preload

WARM = (array, ast, bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, typing)
"""Small modules: every megabyte makes forks slower."""
GRACE = 2.0
"""Seconds beyond a job's own limits after which whoever should have reported is killed."""

STATUSES = ("passed", "failed", "timeout", "refused", "missing")
FIELDS: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "detail": (str, NoneType),
    "exit_code": (int, NoneType),
    "stdout": (str,),
    "probed": (str, NoneType),
    "waited": (float, int),
}
"""What an outcome may say, as operators.sandbox.Outcome has it."""


def main(arguments: list[str]) -> None:
    """Serve until standard input ends. The first message there is a part of all jobs: the inner ``profile`` of system
    calls, and ``door``, a descriptor that lets into a control group (None: there is none).

    Args:
        arguments: ``separate`` (enter namespaces; else only limits hold a program), and where this runs as root, the
            user to become.
    """
    separate = arguments[0] == "separate"
    jobs, results = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if len(arguments) > 1:
        isolate.mount_proc()  # bubblewrap's own is covered in parts where it runs as root: none could be mounted later
        isolate.become(int(arguments[1]))
    isolate.adopt_orphans()
    sys.set_int_max_str_digits(0)
    sys.path = [place for place in sys.path if not place.startswith("/sandbox")]
    if os.path.isdir(PACKAGES):
        sys.path.append(PACKAGES)
    loaded: set[str] = set()
    requests, answers = Frames(jobs, jobs, exact=True), Frames(results, results)
    gc.freeze()
    try:
        common = requests.receive()
        while True:
            job = common | requests.receive()
            wanted = [name for name in job["packages"] if name not in loaded]
            if wanted:
                preload(wanted)
                loaded |= {*wanted}
            answers.send(_launch(job, requests, results, separate))
    except Closed:
        return


def _launch(job: dict[str, Any], requests: Frames, results: int, separate: bool) -> dict[str, Any]:
    """Fork a tester and have it run the job; return its outcome when all its processes are gone."""
    began = time.monotonic()
    job["folder"] = None if separate else _folder()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.close(results)
            isolate.die_with_parent()
            if separate:
                isolate.enter_namespaces()
                isolate.be_readable(False)
            tester.main(job, requests, Frames(read, write))
        except BaseException as error:
            Frames(read, write).send({"status": "broken", "detail": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(1)
    os.close(write)
    watch = _Watch(job, child) if separate else None
    answers, until = Frames(read, read), began + GRACE + job["most_seconds"]
    try:
        outcome = answers.receive(until, watch)
        if "serves" in outcome:  # the program is shut in; the rest is said by what may execute its tests
            if watch is not None:
                watch.besides.add(outcome["serves"])  # None, or who starts its runs and executes nothing of it
            outcome = checked(answers.receive(until, watch))
    except TooSlow:
        outcome = {"status": "timeout", "waited": isolate.waited(os.getpid(), 1) if separate else 0.0}
    except Closed:
        outcome = {"status": "failed", "detail": "the sandbox was killed, probably for want of memory"}
    except (Malformed, TooLarge):
        outcome = {"status": "refused", "detail": "the tests broke what runs them"}
    finally:
        os.close(read)
    _end_all(3.0)
    if job["folder"] is not None:
        _remove(job["folder"])
    if watch is not None and watch.over is not None:
        outcome |= {"status": "failed", "detail": watch.over}
    return {**outcome, "seconds": time.monotonic() - began}


def checked(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome that is one.

    Raises:
        Malformed: it is none: tests have got hold of what tells it.
    """
    if outcome.get("status") not in STATUSES:
        raise Malformed
    if any(not isinstance(value, FIELDS.get(name, ())) for name, value in outcome.items()):
        raise Malformed
    return outcome


class _Watch:
    """Looks at what all of a program's processes use together, whatever they, or their tests, are doing; kills them
    when it is too much."""

    def __init__(self, job: dict[str, Any], tester: int) -> None:
        self._limits, self._counted = job["limits"], job["door"] is not None
        self.besides: set[int | None] = {1, os.getpid(), tester}
        """Processes that aren't the program's."""
        self.over: str | None = None
        """Which limit they were over."""

    def __call__(self) -> None:
        self.over = self.over or usage.overstepping(self._limits, self.besides, self._counted)
        if self.over is not None:
            usage.kill_program(self.besides)


def _end_all(seconds: float) -> None:
    """End all descendants; those whose parents have ended have become this process's children.

    Raises:
        Closed: some stay; this sandbox is of no use any more.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                isolate.kill_children()
                if time.monotonic() > until:
                    raise Closed
                select.select([], [], [], 0.0002)
        except ChildProcessError:
            return


def _folder() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="gristmill-unsafe-")


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
