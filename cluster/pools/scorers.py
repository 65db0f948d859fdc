"""Scorers: the workers of one stage that asks an engine, as a pool that work is given to.

The driver's flights see it as they see a runner: work goes in, a future comes back, a worker that died fails what it
had with ``WorkerLost``, and they try again, bisect and quarantine as everywhere. The pool starts its workers with the
first piece of work, keeps the next piece waiting at each, and replaces those that die, a bounded number of times in a
row.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from cluster.records.run import Say
from cluster.records.timeline import Activity
from cluster.runners.runner import Runner, WorkerHandle
from cluster.stages.flights import Handle
from cluster.stages.states import ENGINE_SAMPLES, StageState
from cluster.working.scorer import Scorer, ScoringJob
from cluster.working.work import Done, Task
from operators.engine import EngineDied
from schemas.errors import EngineFailed, GristmillError, WorkerLost
from schemas.job import RunSettings
from schemas.manifest import EngineRecord, ReplicaRecord

AHEAD = 2
"""Pieces of work at one worker: one that is worked on, and the next."""


@dataclass(eq=False)
class _Worker:
    number: int
    handle: WorkerHandle[Scorer]
    ready: bool = False
    under_way: dict[int, Future[Done]] = field(default_factory=dict[int, "Future[Done]"])
    """Work number -> what the flights wait for."""


class Scorers:
    """The pool of one stage.

    Args:
        handle: queues a callback for a future's end into the driver's loop; nothing here runs in another thread.
    """

    def __init__(self, runner: Runner, settings: RunSettings, state: StageState, handle: Handle, say: Say) -> None:
        spec = state.plan.stage.engine
        assert spec is not None
        self.runner = runner
        self.settings = settings
        self.state = state
        self.spec = spec
        self._handle = handle
        self._say = say
        self._workers: list[_Worker] = []
        self._queue: deque[tuple[Task, Future[Done]]] = deque()
        self._deaths = 0
        self._failure: GristmillError | None = None
        self._records: dict[int, ReplicaRecord] = {}
        self._earlier: dict[int, ReplicaRecord] = {}

    @property
    def slots(self) -> int:
        return self.spec.replicas

    def submit(self, work: Task) -> Future[Done]:
        """Give work to whichever worker has least to do, as soon as one has room."""
        future: Future[Done] = Future()
        taken = {worker.number for worker in self._workers}
        for number in range(self.spec.replicas):
            if number not in taken and self._failure is None:
                self._start(number)
        self._queue.append((work, future))
        self._dispatch()
        return future

    def submit_wide(self, task: Task) -> Future[Done]:
        return self.submit(task)

    def cancel(self, future: Future[Done]) -> None:
        """Give a piece of work up: ``WorkerLost``."""
        for worker in self._workers:
            for number, known in list(worker.under_way.items()):
                if known is future:
                    worker.handle.call(Scorer.cancel, number)
                    del worker.under_way[number]
        _settle(future, None, WorkerLost("the work didn't return in time and was given up"))
        self._dispatch()

    def _start(self, number: int) -> None:
        job = ScoringJob(self.state.name, self.spec)
        worker = _Worker(number, self.runner.engine_worker(job, number))
        self._workers.append(worker)
        if number in self._records:
            self._earlier[number] = self._records[number]

        def loaded(future: Future[Any]) -> None:
            error = future.exception()
            if worker not in self._workers:
                return
            if error is not None:
                self._on_lost(worker, error)
                return
            worker.ready = True
            self.state.record.engine = EngineRecord(**vars(future.result().info))
            self._dispatch()

        self._handle(worker.handle.call(Scorer.start), loaded)

    def _dispatch(self) -> None:
        while self._queue and self._failure is not None:
            _settle(self._queue.popleft()[1], None, self._failure)
        while self._queue:
            free = [worker for worker in self._workers if worker.ready and len(worker.under_way) < AHEAD]
            if not free:
                return
            work, future = self._queue.popleft()
            if not future.done():
                self._give(min(free, key=lambda worker: len(worker.under_way)), work, future)

    def _give(self, worker: _Worker, work: Task, future: Future[Done]) -> None:
        worker.under_way[work.number] = future

        def answered(inner: Future[Any]) -> None:
            error = inner.exception()
            if worker not in self._workers or worker.under_way.get(work.number) is not future:
                return  # it died, or the work was given up
            if isinstance(error, WorkerLost | EngineDied):
                self._on_lost(worker, error)
                return
            del worker.under_way[work.number]
            done = None
            if error is None:
                done, activity = inner.result()
                self._deaths = 0
                self._record(worker.number, activity)
            _settle(future, done, error)
            self._dispatch()

        self._handle(worker.handle.call(Scorer.run, work), answered)

    def _on_lost(self, worker: _Worker, error: BaseException) -> None:
        """Start another in its place; what it had goes back to the flights, which know what to do."""
        self._workers.remove(worker)
        worker.handle.kill()
        lost, worker.under_way = list(worker.under_way.values()), {}
        self._deaths += 1
        search = 2 * math.ceil(math.log2(ENGINE_SAMPLES)) if lost else 0
        name = self.state.name
        if isinstance(error, GristmillError) and not isinstance(error, WorkerLost):
            self._failure = error
        elif self._deaths > self.settings.engine_restarts + search:
            self._failure = EngineFailed(
                f"stage {name}: the engine died {self._deaths} times without finishing anything in between; last: "
                f"{error}"
            )
        else:
            record = self._records.setdefault(worker.number, ReplicaRecord(number=worker.number))
            record.deaths += 1
            self._say(f"replica {worker.number} died ({error}); starting another", name)
            self._start(worker.number)
        for future in lost:
            _settle(future, None, self._failure or WorkerLost(str(error)))
        self._dispatch()

    def _record(self, number: int, now: Activity) -> None:
        self._records[number] = now.after(self._earlier.get(number) or ReplicaRecord(number=number))
        self.state.record.replicas = [record for _, record in sorted(self._records.items())]

    def waits_for(self) -> list[str]:
        """Return what keeps engines from answering."""
        return [
            f"stage {self.state.name}, replica {worker.number}: "
            f"{worker.handle.waits_for() or 'its engine is being loaded'}"
            for worker in self._workers
            if not worker.ready
        ]

    def sleep(self) -> list[Future[None]]:
        """Put all engines to sleep (nothing is under way)."""
        return [worker.handle.call(Scorer.sleep) for worker in self._workers]

    def wake(self) -> list[Future[None]]:
        """Wake all engines."""
        return [worker.handle.call(Scorer.wake) for worker in self._workers]

    def close(self) -> None:
        """End all workers."""
        workers, self._workers = self._workers, []
        for worker in workers:
            try:
                worker.handle.call_last(Scorer.stop).result(timeout=30)
            except Exception as error:
                self._say(f"a replica ended badly: {error}", self.state.name)
            worker.handle.kill()


def _settle(future: Future[Done], result: Done | None, error: BaseException | None) -> None:
    """Resolve a future unless it was given up."""
    try:
        if error is not None:
            future.set_exception(error)
        elif result is not None:
            future.set_result(result)
    except InvalidStateError:
        pass
