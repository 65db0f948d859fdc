"""A pool of sandboxes: each runs one program at a time, and is replaced when it breaks."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

from cluster.sandbox import bubblewrap, memory_group
from cluster.sandbox.cell import Bare, Cell, Walled
from cluster.sandbox.inside.frames import Closed, Malformed, TooSlow
from cluster.tools.alone import Alone, was_kept_waiting
from cluster.tools.cores import usable
from operators.sandbox import CheckJob, Job, Limits, Mounts, Outcome
from schemas.errors import BadInput

NOTHING = CheckJob("", "")
"""Passes wherever there is a sandbox: after a job that broke two, it tells which of both is to blame."""


class SandboxPool:
    """Runs jobs in ``cells`` sandboxes, started when first needed. Safe to use from several threads."""

    def __init__(self, cells: int, unsafe: bool = False) -> None:
        self.cells = cells
        self.unsafe = unsafe
        self._idle: dict[Mounts, list[Cell]] = {}
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
            except (Closed, Malformed, TooSlow, OSError) as error:
                why = why or f"the sandbox broke ({type(error).__name__}{cell.last_words()})"
                cell.close()
            except BaseException:
                cell.close()
                raise
            else:
                self._give(mounts, cell)
                return outcome if tried is job else Outcome("failed", why)
        raise BadInput(bubblewrap.MISSING.format(why=why))

    def _take(self, mounts: Mounts) -> Cell:
        with self._lock:
            idle = self._idle.get(mounts, [])
            if idle:
                return idle.pop()
        return Bare() if self.unsafe else Walled(mounts)

    def _give(self, mounts: Mounts, cell: Cell) -> None:
        """Keep a sandbox for the next job; of more than ``cells`` idle ones, one of other mounts is closed."""
        with self._lock:
            self._idle.setdefault(mounts, []).append(cell)
            others = [cells for kept, cells in self._idle.items() if kept != mounts and cells]
            many = sum(map(len, self._idle.values())) > self.cells
            old = others[0].pop() if many and others else None
        if old is not None:
            old.close()

    def check(self) -> str | None:
        """Run a program that does nothing; return what is weaker on this machine than it could be, if anything is.

        Raises:
            BadInput: it can't be run; says what is missing.
        """
        [outcome] = self.run([NOTHING], Limits(), Mounts())
        if outcome.status != "passed":
            raise BadInput(bubblewrap.MISSING.format(why=outcome.detail or outcome.status))
        return None if self.unsafe else memory_group.uncounted()

    def close(self) -> None:
        """End all sandboxes."""
        with self._lock:
            cells, self._idle = [cell for cells in self._idle.values() for cell in cells], {}
        for cell in cells:
            cell.close()
        self._threads.shutdown(wait=False)


@cache
def shared_sandbox(unsafe: bool) -> SandboxPool:
    """Return this process's own pool, closed at exit."""
    pool = SandboxPool(usable(), unsafe)
    atexit.register(pool.close)
    return pool
