"""The warm interpreter inside a sandbox: reads jobs from its standard input, forks, writes what came of them.

It never executes anything of a program's or of its tests'.
"""

from __future__ import annotations

# what programs import most: loaded once here, there already in every fork
import array
import ast
import bisect
import cmath
import collections
import copy
import datetime
import decimal
import fractions
import functools
import gc
import hashlib
import heapq
import itertools
import math
import operator
import os
import random
import re
import select
import shutil
import signal
import statistics
import string
import sys
import tempfile
import time
import typing
import unittest
from typing import Any

from . import isolate, tester
from .frames import Closed, TooSlow, read_frame, write_frame
from .program import PACKAGES, preload

WARM = (array, ast, bisect, cmath, collections, copy, datetime, decimal, fractions, functools, hashlib, heapq,
        itertools, math, operator, random, re, statistics, string, typing, unittest)  # fmt: skip
GRACE = 2.0
"""Seconds beyond a job's own limits after which whoever should have reported is killed."""


def main(arguments: list[str]) -> None:
    """Serve until standard input ends.

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
    gc.freeze()
    try:
        while True:
            job = read_frame(jobs)
            wanted = [name for name in job["packages"] if name in job.get("program", "") and name not in loaded]
            preload(wanted)
            loaded |= {*wanted}
            write_frame(results, _launch(job, jobs, results, separate))
    except Closed:
        return


def _launch(job: dict[str, Any], jobs: int, results: int, separate: bool) -> dict[str, Any]:
    """Have a launcher run the job; return its outcome when all its processes are gone."""
    began = time.monotonic()
    folder = None if separate else tempfile.mkdtemp(prefix="gristmill-unsafe-")
    read, write = os.pipe()
    launcher = os.fork()
    if launcher == 0:
        try:
            os.close(read)
            os.close(results)
            _enter({**job, "folder": folder}, jobs, write, separate)
        except BaseException as error:
            write_frame(write, {"status": "error", "detail": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(1)
    os.close(write)
    most = GRACE + job["most_seconds"]
    try:
        outcome = read_frame(read, began + most)
    except TooSlow:
        outcome = {"status": "timeout"}
    except Closed:
        outcome = {"status": "failed", "detail": "the sandbox was killed, probably for want of memory"}
    finally:
        os.close(read)
    if outcome["status"] == "timeout" or not separate:
        os.kill(launcher, signal.SIGKILL)  # the tester goes with it, and with the tester all the others
    _wait_for_all(3.0, kill=not separate)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return {**outcome, "seconds": time.monotonic() - began}


def _enter(job: dict[str, Any], jobs: int, write: int, separate: bool) -> None:
    """Enter new namespaces and fork the tester there."""
    isolate.die_with_parent()
    if separate:
        isolate.enter_namespaces()
    child = os.fork()
    if child == 0:
        isolate.die_with_parent()
        if separate:
            isolate.be_readable(False)
        tester.main(job, jobs, write, separate)
    os.close(write)
    os.waitpid(child, 0)


def _wait_for_all(seconds: float, kill: bool) -> None:
    """Wait until no descendant is left.

    Args:
        kill: end those that are still there; where they have no namespace of their own, nobody else does.

    Raises:
        Closed: some stay; this sandbox is of no use any more.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                if kill:
                    isolate.kill_children()
                if time.monotonic() > until:
                    raise Closed
                select.select([], [], [], 0.0005)
        except ChildProcessError:
            return
