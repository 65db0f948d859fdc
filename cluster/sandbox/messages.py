"""What a sandbox is told of a job: what the program's own process may know, and what it mustn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.sandbox.inside.values import encode
from operators.sandbox import CallsJob, CasesJob, CheckJob, CommandJob, Job, Mounts

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


def runs(job: Job) -> int:
    """Return how many times the limit in seconds applies."""
    if isinstance(job, CasesJob):
        return len(job.cases) + bool(job.language is not None and job.language.compile)
    if isinstance(job, CheckJob):
        return 3 if job.probe else 1
    return 1 + len(job.calls) if isinstance(job, CallsJob) else 1


def runs_in_one(job: Job) -> int:
    """Return how many of these runs one process makes."""
    return runs(job) if isinstance(job, CallsJob) else 1


def messages(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
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


def wanted(job: Job, mounts: Mounts) -> list[str]:
    """Return the packages that a job's program or tests seem to import, to be loaded beforehand."""
    texts = [getattr(job, name, "") for name in ("program", "tests", "prefix")]
    return [name for name in mounts.packages if any(name in text for text in texts)]
