"""What the replicas of a stage that asks an engine are given: tasks, and credit to pay their calls with.

The driver's flights see it as they see a runner: work goes in, a future comes back, a worker that died fails what it
had with ``WorkerLost``, and they try again, bisect and quarantine as everywhere. The next piece always waits at a
replica while it works on one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from cluster.pools.lending import Lending
from cluster.pools.replica import Replica
from cluster.spending.books import Books
from cluster.stages.flights import Handle
from cluster.stages.states import ENGINE_SAMPLES, StageState
from cluster.working.engine_worker import EngineJob, EngineWorker
from cluster.working.reports import Report
from cluster.working.work import Done, Task
from operators.engine import EngineDied
from schemas.errors import GristmillError, NodeLost, WorkerLost

AHEAD = 2
"""Pieces of work at one replica: one that is worked on, and the next."""


class AskingFeed:
    """Feeds the replicas of one stage that asks.

    Args:
        handle: queues a callback for a future's end into the driver's loop; nothing here runs in another thread.
        on_lost: called with a replica that died over its work, and how.
        start: starts the stage's replicas.
    """

    def __init__(
        self,
        state: StageState,
        books: Books,
        handle: Handle,
        on_lost: Callable[[Replica, BaseException], None],
        start: Callable[[], None],
    ) -> None:
        spec = state.plan.stage.engine
        assert spec is not None
        self.state = state
        self.role = ""
        self.spec = spec
        self.lending = Lending(state, books)
        self._handle = handle
        self._on_lost = on_lost
        self._start = start
        self._replicas: list[Replica] = []
        self._queue: deque[tuple[Task, Future[Done]]] = deque()

    # -- as the flights see it -------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        return self.spec.replicas

    def submit(self, work: Task) -> Future[Done]:
        """Give work to whichever replica has least to do, as soon as one has room."""
        future: Future[Done] = Future()
        self._queue.append((work, future))
        self._start()
        self._dispatch()
        return future

    def submit_wide(self, task: Task) -> Future[Done]:
        return self.submit(task)

    def cancel(self, future: Future[Done]) -> None:
        """Give a piece of work up: ``WorkerLost``."""
        for replica in self._replicas:
            for number, known in list(replica.under_way.items()):
                if known is future:
                    replica.handle.call(EngineWorker.cancel, number)
                    del replica.under_way[number]
        _settle(future, None, WorkerLost("the work didn't return in time and was given up"))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue:
            free = [one for one in self._replicas if one.ready is not None and len(one.under_way) < AHEAD]
            if not free:
                return
            work, future = self._queue.popleft()
            if not future.done():
                self._give(min(free, key=lambda one: len(one.under_way)), work, future)

    def _give(self, replica: Replica, work: Task, future: Future[Done]) -> None:
        replica.under_way[work.number] = future

        def answered(inner: Future[Any]) -> None:
            if replica not in self._replicas or replica.under_way.get(work.number) is not future:
                return  # it died, or the work was given up
            error = inner.exception()
            if isinstance(error, WorkerLost | EngineDied):
                self._on_lost(replica, error)
                return
            del replica.under_way[work.number]
            _settle(future, inner.result() if error is None else None, error)
            self._dispatch()

        self._handle(replica.handle.call(EngineWorker.run, work), answered)

    # -- as the replicas see it ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        return self.state.waiting or self.needed

    @property
    def needed(self) -> bool:
        return bool(self._queue)

    @property
    def holds(self) -> bool:
        return False

    def job(self, run_id: str, flush_rows: int, flush_seconds: float) -> EngineJob:
        state = self.state
        return EngineJob(
            state.name, state.plan.stage.operator, self.spec, state.run.root.url, state.plan.folder, run_id, flush_rows,
            flush_seconds, paid=bool(state.loans), prices={role: loan.prices for role, loan in state.loans.items()},
        )  # fmt: skip

    def on_started(self, replica: Replica) -> None:
        pass

    def on_loaded(self, replica: Replica) -> None:
        self._replicas.append(replica)
        self.state.capacity = replica.ready.capacity if replica.ready is not None else 0
        self._dispatch()

    def on_report(self, replica: Replica, report: Report) -> bool:
        self.lending.on_report(replica, report)
        return report.called

    def plan(self, replica: Replica) -> list[Callable[[], None]]:
        return self.lending.plan(replica)

    def finished_with(self, replica: Replica) -> bool:
        return False  # it may be asked again; it ends with the run

    def on_died(self, replica: Replica, error: BaseException) -> int:
        lost = self._drop(replica)
        fault: BaseException = WorkerLost(str(error))
        if isinstance(error, NodeLost) or (isinstance(error, GristmillError) and not isinstance(error, WorkerLost)):
            fault = error
        for future in lost:
            _settle(future, None, fault)
        return 2 * math.ceil(math.log2(ENGINE_SAMPLES)) if lost else 0

    def on_ended(self, replica: Replica, reported: bool) -> None:
        for future in self._drop(replica):
            _settle(future, None, WorkerLost("its engine was ended"))

    def _drop(self, replica: Replica) -> list[Future[Done]]:
        if replica in self._replicas:
            self._replicas.remove(replica)
        self.lending.drop(replica)
        lost, replica.under_way = list(replica.under_way.values()), {}
        return lost


def _settle(future: Future[Done], result: Done | None, error: BaseException | None) -> None:
    """Resolve a future unless it was given up."""
    try:
        if error is not None:
            future.set_exception(error)
        elif result is not None:
            future.set_result(result)
    except InvalidStateError:
        pass
