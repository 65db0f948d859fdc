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
import itertools
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from pebble import ProcessPool

from cluster.tools.alone import Alone, was_kept_waiting
from cluster.tools.cores import usable
from operators.workers import TimedOut, WorkerFailed

CHUNK_CALLS = 64
"""How many calls travel together: a call of a tenth of a millisecond then isn't dominated by its journey."""
PRELOAD = ("cluster.tools.background", "math_verify", "operators.verify.reading.symbolic")
"""Imported once by the fork server, inherited by every worker."""
PR_SET_PDEATHSIG = 1
GRACE = 2.0
"""Seconds after its limit in which a process that ends itself should have done so; then it is killed."""
MEMORY = 4 << 30
"""Bytes that a worker may use: what a model wrote may be a number with a billion digits."""


class ProcessWorkers:
    """A pool of ``processes`` workers, started by the first call. Safe to use from several threads."""

    def __init__(self, processes: int, preload: Sequence[str] = PRELOAD) -> None:
        self.processes = processes
        self.preload = list(preload)
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()
        self._alone = Alone()
        self._tokens = itertools.count()
        self._ends = tempfile.TemporaryDirectory(prefix="gristmill-workers-")
        """Where a worker that ends itself at its limit leaves word of it: a file named by the call's number."""

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
        with self._alone.together():
            begun = [self._chunk(function, chunk, seconds) for chunk in chunks]
            results = [result for chunk in begun for result in chunk()]
        for at, result in enumerate(results):
            if isinstance(result, TimedOut) and was_kept_waiting(result.waited, seconds):
                with self._alone.alone():
                    results[at] = self._call(function, wanted[at], seconds)()
        return results

    def _chunk(
        self, function: Callable[..., Any], chunk: list[tuple[Any, ...]], seconds: float
    ) -> Callable[[], list[Any]]:
        """Begin some calls in one process; return what waits for their results."""
        if len(chunk) == 1:
            [only] = [self._call(function, call, seconds) for call in chunk]
            return lambda: [only()]
        # a chunk may take one limit for its slowest call and some time for the others
        future = self._submit(function, chunk, 2 * seconds)

        def results() -> list[Any]:
            try:
                return future.result()
            except Exception:
                alone = [self._call(function, call, seconds) for call in chunk]
                return [result() for result in alone]

        return results

    def _call(self, function: Callable[..., Any], call: tuple[Any, ...], seconds: float) -> Callable[[], Any]:
        """Begin one call, which ends its process when it takes too long; return what waits for its result."""
        end = Path(self._ends.name, str(next(self._tokens)))
        future = self._submit(function, [call], seconds + GRACE, (str(end), seconds))

        def result() -> Any:
            try:
                return future.result()[0]
            except Exception as error:
                if end.exists():
                    waited = float(end.read_text() or 0)
                    end.unlink()
                    return TimedOut(waited)
                return TimedOut() if isinstance(error, TimeoutError) else WorkerFailed(_describe(error))

        return result

    def _submit(
        self, function: Callable[..., Any], chunk: list[tuple[Any, ...]], seconds: float, *end: tuple[str, float]
    ) -> Future[Any]:
        with self._lock:
            if self._pool is not None and not self._pool.active:  # something outside killed a worker between calls
                self._pool = None
            if self._pool is None:
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(self.preload)
                self._pool = ProcessPool(self.processes, initializer=_begin, context=context)
            return self._pool.schedule(_run_chunk, args=(function, chunk, *end), timeout=seconds)

    def close(self) -> None:
        """End all workers now."""
        with self._lock:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join()
                self._pool = None
        self._ends.cleanup()


def _run_chunk(
    function: Callable[..., Any], calls: list[tuple[Any, ...]], end: tuple[str, float] | None = None
) -> list[Any]:
    """Run calls one after the other.

    Args:
        end: (file, seconds): after so many seconds the process ends itself, and leaves word in the file of how many of
            them it waited for a core.
    """
    if end is not None:
        place, seconds = end
        before = _waited()
        signal.signal(signal.SIGALRM, lambda *_: _end(place, before))
        signal.setitimer(signal.ITIMER_REAL, seconds)
    results: list[Any] = []
    for call in calls:
        try:
            results.append(function(*call))
        except (Exception, SystemExit) as error:
            results.append(WorkerFailed(_describe(error)))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return results


def _end(place: str, before: float) -> None:
    with contextlib.suppress(OSError):
        Path(place).write_text(str(_waited() - before))
    os.kill(os.getpid(), signal.SIGKILL)


def _waited() -> float:
    """Return for how many seconds this process has waited for a core; 0 where the kernel doesn't tell."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


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
