"""The local runner: everything in this process. For tests, notebooks and small jobs.

Tasks run in a few threads (Polars and Arrow release the interpreter lock; verification that must be killable runs in
worker processes). A sampler gets a thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cluster.runner import Runner, SamplerHandle
from cluster.sampler import Sampler, SamplingJob
from cluster.work import Done, Task, execute


class LocalRunner(Runner):
    """Runs a pipeline in this process; ``slots`` tasks at once."""

    name = "local"

    def __init__(self, slots: int | None = None) -> None:
        self._slots = slots or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix="gristmill-task")
        self._samplers: list[_LocalSampler] = []

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, task: Task) -> Future[Done]:
        return self._pool.submit(execute, task)

    def sampler(self, job: SamplingJob) -> SamplerHandle:
        handle = _LocalSampler(job)
        self._samplers.append(handle)
        return handle

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for sampler in self._samplers:
            sampler.kill()


class _LocalSampler:
    """A ``Sampler`` in a thread of its own."""

    def __init__(self, job: SamplingJob) -> None:
        self._sampler = Sampler(job)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gristmill-sampler", daemon=True)
        self._thread.start()

    def call(self, method: str, *args: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(getattr(self._sampler, method)(*args), self._loop)

    def kill(self) -> None:
        if self._loop.is_running():
            self.call("abandon").exception(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)
            self._loop.close()
