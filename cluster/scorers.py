"""Scorers: the workers of one stage that asks an engine, as a pool that work is given to.

The driver's flights see it as they see a runner: work goes in, a future comes back, a worker that died fails what it
had with ``WorkerLost``, and they try again, bisect and quarantine as everywhere. The pool starts its workers with the
first piece of work, keeps the next piece waiting at each, and replaces those that die, a bounded number of times in a
row.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.runner import Runner, WorkerHandle
from cluster.scorer import ScoringJob
from cluster.states import ENGINE_SAMPLES, StageState
from cluster.timeline import Activity
from cluster.work import Done, Task, Work
from operators.engine import EngineDied
from schemas.errors import EngineFailed, GristmillError, WorkerLost
from schemas.job import RunSettings
from schemas.manifest import EngineRecord, ReplicaRecord

AHEAD = 2
"""Pieces of work at one worker: one that is worked on, and the next."""


@dataclass(eq=False)
class _Worker:
    number: int
    handle: WorkerHandle
    ready: bool = False
    under_way: dict[int, Future[Done]] = field(default_factory=dict[int, "Future[Done]"])
    """Work number -> what the flights wait for."""


class Scorers:
    """The pool of one stage. Callbacks come from other threads, so everything is done under one lock."""

    def __init__(self, runner: Runner, settings: RunSettings, state: StageState, say: Callable[[str], None]) -> None:
        spec = state.plan.stage.engine
        assert spec is not None
        self.runner = runner
        self.settings = settings
        self.state = state
        self.spec = spec
        self._say = say
        self._lock = threading.RLock()
        self._workers: list[_Worker] = []
        self._queue: deque[tuple[Work, Future[Done]]] = deque()
        self._deaths = 0
        self._failure: GristmillError | None = None
        self._records: dict[int, ReplicaRecord] = {}
        self._earlier: dict[int, ReplicaRecord] = {}

    @property
    def slots(self) -> int:
        return self.spec.replicas

    def submit(self, work: Work) -> Future[Done]:
        """Give work to whichever worker has least to do, as soon as one has room."""
        future: Future[Done] = Future()
        with self._lock:
            while len(self._workers) < self.spec.replicas and self._failure is None:
                taken = {worker.number for worker in self._workers}
                self._start(next(number for number in range(self.spec.replicas) if number not in taken))
            self._queue.append((work, future))
            self._dispatch()
        return future

    def submit_wide(self, task: Task) -> Future[Done]:
        return self.submit(task)

    def cancel(self, future: Future[Done]) -> None:
        """Give a piece of work up: ``WorkerLost``."""
        with self._lock:
            for worker in self._workers:
                for number, known in list(worker.under_way.items()):
                    if known is future:
                        worker.handle.call("cancel", number)
                        del worker.under_way[number]
        _settle(future, None, WorkerLost("the work didn't return in time and was given up"))
        self._dispatch()

    def _start(self, number: int) -> None:
        worker = _Worker(number, self.runner.engine_worker(ScoringJob(self.state.name, self.spec), number))
        self._workers.append(worker)
        if number in self._records:
            self._earlier[number] = self._records[number]

        def loaded(future: Future[Any]) -> None:
            error = future.exception()
            with self._lock:
                if worker not in self._workers:
                    return
                if error is not None:
                    self._lost(worker, error)
                else:
                    worker.ready = True
                    self.state.record.engine = EngineRecord(**vars(future.result().info))
                    self._dispatch()

        worker.handle.call("start").add_done_callback(loaded)

    def _dispatch(self) -> None:
        with self._lock:
            if self._failure is not None:
                while self._queue:
                    _settle(self._queue.popleft()[1], None, self._failure)
            while self._queue:
                free = [w for w in self._workers if w.ready and len(w.under_way) < AHEAD]
                if not free:
                    return
                work, future = self._queue.popleft()
                if not future.done():
                    self._give(min(free, key=lambda worker: len(worker.under_way)), work, future)

    def _give(self, worker: _Worker, work: Work, future: Future[Done]) -> None:
        worker.under_way[work.number] = future

        def answered(inner: Future[Any]) -> None:
            error = inner.exception()
            with self._lock:
                mine = worker.under_way.pop(work.number, None) is future
                if isinstance(error, WorkerLost | EngineDied):
                    if worker in self._workers:
                        worker.under_way |= {work.number: future} if mine else {}
                        self._lost(worker, error)
                    return
                done = None
                if error is None:
                    done, activity = inner.result()
                    self._deaths = 0
                    self._record(worker.number, activity)
            if mine:
                _settle(future, done, error)
            self._dispatch()

        worker.handle.call("run", work).add_done_callback(answered)

    def _lost(self, worker: _Worker, error: BaseException) -> None:
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
            self._say(f"stage {name}: replica {worker.number} died ({error}); starting another")
            self._start(worker.number)
        for future in lost:
            _settle(future, None, self._failure or WorkerLost(str(error)))
        self._dispatch()

    def _record(self, number: int, now: Activity) -> None:
        self._records[number] = now.after(self._earlier.get(number) or ReplicaRecord(number=number))
        self.state.record.replicas = [record for _, record in sorted(self._records.items())]

    def call(self, method: Literal["sleep", "wake"]) -> list[Future[Any]]:
        """Put all engines to sleep (nothing is under way), or wake them."""
        with self._lock:
            return [worker.handle.call(method) for worker in self._workers]

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            workers, self._workers = self._workers, []
        for worker in workers:
            try:
                worker.handle.call("stop").result(timeout=30)
            except Exception as error:
                self._say(f"stage {self.state.name}: a replica ended badly: {error}")
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
