"""The scoring worker: one engine that works on the tasks of a stage that asks it (reward models, judges).

It runs in one event loop, like the sampling worker. A few tasks are under way at once, so while one reads or writes,
the engine works on another.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from cluster.engines import build_engine
from cluster.records.timeline import Activity, Timeline
from cluster.working.sampler import Ready
from cluster.working.work import Done, Task
from operators.engine import Engine
from schemas.engine import EngineSpec


@dataclass(frozen=True)
class ScoringJob:
    """Everything a scoring worker needs to know; small and picklable."""

    stage: str
    engine: EngineSpec

    @property
    def worker(self) -> type[Scorer]:
        return Scorer


class Scorer:
    """Runs in one event loop: the local runner's thread or a Ray actor."""

    def __init__(self, job: ScoringJob) -> None:
        self.job = job
        self._timeline = Timeline(socket.gethostname())
        self._running: dict[int, asyncio.Task[Done]] = {}

    async def start(self) -> Ready:
        """Load the engine."""
        self.engine: Engine = await asyncio.to_thread(build_engine, self.job.engine)
        return Ready(self.engine.info, self.engine.capacity)

    async def run(self, work: Task) -> tuple[Done, Activity]:
        """Do one task.

        Raises:
            StageFailed, ContractViolation, DamagedFile: as ``Task.run``.
            EngineDied: the engine is gone.
        """
        task = asyncio.create_task(work.ask(self.engine, self._timeline))
        self._running[work.number] = task
        try:
            return await task, self._timeline.activity()
        finally:
            del self._running[work.number]

    async def cancel(self, number: int) -> None:
        """End a task that takes too long."""
        if number in self._running:
            self._running[number].cancel()

    async def sleep(self) -> None:
        """Give the GPUs to the engine whose turn it is; no task is under way."""
        await self.engine.sleep()

    async def wake(self) -> None:
        await self.engine.wake()

    async def stop(self) -> Activity:
        """Free the engine."""
        await self.engine.close()
        return self._timeline.activity()
