"""Killable worker processes: plain functions with a time limit that really ends them.

A call that hangs (a symbolic comparison that never returns) can't be stopped inside a thread; its process can.
Processes come from a fork server that has imported what the calls need, so replacing one takes milliseconds. Calls
travel in chunks; a chunk whose process had to be killed is run again call by call, so the guilty call costs itself
alone.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from types import TracebackType
from typing import Any

from pebble import ProcessPool

from cluster.tools.cores import usable
from operators.workers import TimedOut, WorkerFailed

CHUNK_CALLS = 64
"""How many calls travel together: a call of a tenth of a millisecond then isn't dominated by its journey."""
PRELOAD = ("cluster.tools.background", "math_verify", "operators.verify.symbolic")
"""Imported once by the fork server, inherited by every worker."""
PR_SET_PDEATHSIG = 1
MEMORY = 4 << 30
"""Bytes that a worker may use: what a model wrote may be a number with a billion digits."""


class ProcessWorkers:
    """A pool of ``processes`` workers, started by the first call. Safe to use from several threads."""

    def __init__(self, processes: int, preload: Sequence[str] = PRELOAD) -> None:
        self.processes = processes
        self.preload = list(preload)
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> ProcessWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], seconds: float) -> list[Any]:
        """Return ``function(*args)`` for each call, in order; see operators.workers.WorkerPool."""
        wanted = list(calls)
        size = max(1, min(CHUNK_CALLS, len(wanted) // (4 * self.processes)))
        chunks = [wanted[at : at + size] for at in range(0, len(wanted), size)]
        # a chunk may take one limit for its slowest call and some time for the others
        futures = [self._submit(function, chunk, seconds * (1 if len(chunk) == 1 else 2)) for chunk in chunks]
        results: list[Any] = []
        for chunk, future in zip(chunks, futures, strict=True):
            results += self._results(function, chunk, future, seconds)
        return results

    def _results(
        self, function: Callable[..., Any], chunk: list[tuple[Any, ...]], future: Future[Any], seconds: float
    ) -> list[Any]:
        try:
            return future.result()
        except Exception as error:
            if len(chunk) == 1:
                return [TimedOut() if isinstance(error, TimeoutError) else WorkerFailed(_describe(error))]
        alone = [self._submit(function, [call], seconds) for call in chunk]
        return [self._results(function, [call], again, seconds)[0] for call, again in zip(chunk, alone, strict=True)]

    def _submit(self, function: Callable[..., Any], chunk: list[tuple[Any, ...]], seconds: float) -> Future[Any]:
        with self._lock:
            if self._pool is not None and not self._pool.active:  # something outside killed a worker between calls
                self._pool = None
            if self._pool is None:
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(self.preload)
                self._pool = ProcessPool(self.processes, initializer=_begin, context=context)
            return self._pool.schedule(_run_chunk, args=(function, chunk), timeout=seconds)

    def close(self) -> None:
        """End all workers now."""
        with self._lock:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join()
                self._pool = None


def _run_chunk(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    results: list[Any] = []
    for call in calls:
        try:
            results.append(function(*call))
        except (Exception, SystemExit) as error:
            results.append(WorkerFailed(_describe(error)))
    return results


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _begin() -> None:
    """Limit the worker's memory; end with the fork server, which ends with what started it, even by SIGKILL (Linux)."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@cache
def shared_workers() -> ProcessWorkers:
    """Return this process's own pool, made on first use and closed at exit."""
    workers = ProcessWorkers(max(1, usable() // 2))
    atexit.register(workers.close)
    return workers
