"""Runners: whatever executes work. ``Runner.run`` moves a pipeline; a runner knows only tasks and samplers.

Two kinds of work exist. *Work* (``cluster.work``) is one call of one operator or one merge, cheap and repeatable. A
*sampler* is a long-lived worker around an engine (``cluster.sampler.Sampler``), addressed by method name. Everything
comes back as a ``concurrent.futures.Future``, so the driver is the same for all runners.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from cluster.run import Observer, RunResult
from cluster.sampler import SamplingJob
from cluster.work import Done, Task, Work
from schemas.job import RunSettings

if TYPE_CHECKING:
    from pipelines.graph import Pipeline


class SamplerHandle(Protocol):
    """A sampling worker, wherever it lives."""

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of ``cluster.sampler.Sampler``; the future fails when the worker died."""
        ...

    def kill(self) -> None:
        """End it without asking (after a failure)."""
        ...


class Runner(ABC):
    """Executes tasks and hosts samplers; started lazily by the first of them."""

    name: str
    """As it is recorded in manifests."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many tasks may run at once."""

    @abstractmethod
    def submit(self, work: Work) -> Future[Done]:
        """Run ``work.run()`` in a worker. The future fails with ``WorkerLost`` when the worker died."""

    @abstractmethod
    def cancel(self, future: Future[Done]) -> None:
        """Kill the worker of a submitted piece of work, or give it up where that can't be done: ``WorkerLost``."""

    def submit_wide(self, task: Task) -> Future[Done]:
        """Run a piecewise task that may outgrow one node's memory; here there is only one node."""
        return self.submit(task)

    @abstractmethod
    def sampler(self, job: SamplingJob) -> SamplerHandle:
        """Make a sampling worker (its ``start`` isn't called yet)."""

    @abstractmethod
    def close(self) -> None:
        """Free everything the runner started."""

    def run(
        self,
        pipeline: Pipeline,
        root: str = "./gristmill-data",
        settings: RunSettings | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """Run or resume ``pipeline`` under ``root`` and return what became of it.

        Raises:
            BadInput: something can't be used; nothing was started.
            StageFailed, ContractViolation, EngineFailed: the run ended; what was committed stays.
        """
        from cluster.driver import Driver  # the driver needs this module's names

        return Driver(pipeline, root, self, settings or RunSettings(), observer).run()
