"""The local runner: everything in this process. For tests, notebooks and small jobs.

Work runs in a few threads (Polars and Arrow release the interpreter lock; verification that must be killable runs in
worker processes). An engine worker gets a thread with an event loop of its own. A thread can't be killed: work that
never returns is given up, and another thread takes the place of its own.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Generic

from cluster.runners.runner import EngineJob, Method, P, R, Runner, W, WorkerHandle
from cluster.working.serving import Address
from cluster.working.work import Done, Work
from schemas.engine import EngineSpec
from schemas.errors import BadInput, WorkerLost

LOOK_SECONDS = 1.0
"""Between two looks whether a worker that was called is still there."""


class LocalRunner(Runner):
    """Runs a pipeline in this process; ``slots`` pieces of work at once."""

    name = "local"

    def __init__(self, slots: int | None = None) -> None:
        self._slots = slots or os.cpu_count() or 1
        self._queue: queue.SimpleQueue[tuple[Work, Future[Done]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._working: dict[Future[Done], threading.Thread] = {}
        self._workers: list[_LocalWorker] = []

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, work: Work) -> Future[Done]:
        while len(self._threads) < self._slots:
            self._start_thread()
        future: Future[Done] = Future()
        self._queue.put((work, future))
        return future

    def _start_thread(self) -> None:
        # a daemon: work that never returns must not keep the process from ending
        thread = threading.Thread(target=self._work, name="gristmill-task", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            work, future = item
            if future.done():  # given up before it began
                continue
            self._working[future] = threading.current_thread()
            try:
                _settle(future, work.run(), None)
            except BaseException as error:
                _settle(future, None, error)
            del self._working[future]
            if threading.current_thread() not in self._threads:  # given up meanwhile; another took the place
                return

    def cancel(self, future: Future[Done]) -> None:
        thread = self._working.get(future)
        if thread is not None and thread in self._threads and not future.done():
            self._threads.remove(thread)
            self._start_thread()
        _settle(future, None, WorkerLost("the work didn't return in time and was given up"))

    def check(self, engines: Sequence[EngineSpec]) -> None:
        """Refuse engines of several ranks: here, an engine is in this process. The others find out for themselves."""
        for spec in engines:
            if spec.ranks > 1:
                raise BadInput(
                    f"engine '{getattr(spec, 'model', type(spec).__name__)}' has {spec.ranks} ranks "
                    "(engine.tensor_parallel, pipeline_parallel): it needs --runner ray, on this machine too"
                )

    def engine_worker(self, job: EngineJob[W], number: int) -> WorkerHandle[W]:
        handle = _LocalWorker(job, f"{job.stage}/{number}/{uuid.uuid4().hex}")
        self._workers.append(handle)
        return handle

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=5)
        for worker in self._workers:
            worker.kill()


def _settle(future: Future[Done], result: Done | None, error: BaseException | None) -> None:
    """Resolve a future unless it was given up."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # pyright: ignore[reportArgumentType]
    except InvalidStateError:
        pass


class _LocalWorker(Generic[W]):
    """A worker with an engine, in a thread of its own. It is its own address: other workers are in this process too."""

    def __init__(self, job: EngineJob[W], name: str) -> None:
        self.name = name
        self._worker: W = job.worker(job)  # pyright: ignore[reportCallIssue]: a worker is made with its job
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gristmill-engine", daemon=True)
        self._thread.start()

    def call(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return asyncio.run_coroutine_threadsafe(method(self._worker, *args, **kwargs), self._loop)

    @property
    def address(self) -> Address:
        return _LocalAddress(self.name, self._worker, self._loop)

    def call_last(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self.call(method, *args, **kwargs)

    def waits_for(self) -> str:
        return ""

    def kill(self) -> None:
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).exception(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            self._loop.close()


@dataclass(frozen=True)
class _LocalAddress:
    """See ``cluster.working.serving.Address``."""

    name: str
    worker: object
    loop: asyncio.AbstractEventLoop

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        coroutine = getattr(self.worker, method.__name__)(*args)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError as error:  # its loop is closed
            coroutine.close()
            raise WorkerLost(f"worker {self.name} is gone") from error
        answer = asyncio.wrap_future(future)
        while not answer.done():
            await asyncio.wait([answer], timeout=LOOK_SECONDS)
            if self.loop.is_closed():  # it was ended before it heard of the call
                break
        if not answer.done() or answer.cancelled():
            raise WorkerLost(f"worker {self.name} is gone")
        return answer.result()


async def _cancel_all() -> None:
    """End everything in the loop that asks."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
