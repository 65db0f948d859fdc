"""Runners: whatever executes work. The driver moves a pipeline; a runner knows only tasks and engine workers.

Two kinds of work exist. *Work* (``cluster.working.work``) is one call of one operator or one merge, cheap and
repeatable. An *engine worker* is a long-lived worker around an engine (``cluster.working.engine_worker``); its methods
are called through a handle. Everything comes back as a ``concurrent.futures.Future``, so the driver is the same for all
runners.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cluster.working.serving import Address
from cluster.working.work import Done, Task, Work
from schemas.engine import EngineSpec
from schemas.manifest import RunManifest

W = TypeVar("W")
J = TypeVar("J", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate[W, P], Coroutine[Any, Any, R]]
"""A coroutine method of a worker's class, such as ``EngineWorker.collect``."""


class EngineJob(Protocol[J]):
    """What a worker with an engine has to know, and of which class it is."""

    @property
    def stage(self) -> str: ...

    @property
    def engine(self) -> EngineSpec: ...

    @property
    def worker(self) -> type[J]:
        """Made with the job, in the worker's own event loop."""
        ...


class WorkerHandle(Protocol[W]):  # pyright: ignore[reportInvalidTypeVarUse]: methods of W are taken, none of its values
    """A worker with an engine, wherever it lives: ``handle.call(EngineWorker.assign, ranges)``."""

    def call(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a coroutine method of the worker; the future fails when the worker died."""
        ...

    def call_last(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a method that ends the worker's work; it fails at once where the worker never came to be."""
        ...

    def kill(self) -> None:
        """End it without asking (after a failure)."""
        ...

    @property
    def address(self) -> Address:
        """Where other workers call it."""
        ...

    def waits_for(self) -> str:
        """Return what it needs and hasn't got yet, such as a place in the cluster; empty where it has all."""
        ...


class Runner(ABC):
    """Executes tasks and hosts engine workers; started lazily by the first of them."""

    name: str
    """As it is recorded in manifests."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many tasks may run at once.

        Raises:
            ClusterLost: what runs the workers is gone.
        """

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
    def check(self, engines: Sequence[EngineSpec]) -> None:
        """Refuse engines that can't be had here, before anything is started.

        Raises:
            BadInput: naming what is wanted, and what there is.
        """

    def check_sandbox(self) -> str | None:
        """Refuse to run generated programs where they can't be contained, before anything is started. Return what is
        weaker here than it could be, if anything is.

        This machine is looked at; a worker elsewhere that has no sandbox refuses its task.

        Raises:
            BadInput: saying what is missing.
        """
        from cluster.sandbox.pool import shared_sandbox  # only runs with such programs need it

        return shared_sandbox(False).check()

    @abstractmethod
    def engine_worker(self, job: EngineJob[W], number: int) -> WorkerHandle[W]:
        """Make the worker of one replica of a stage's engine (its ``start`` isn't called yet)."""

    def publish(self, manifest: RunManifest) -> None:  # noqa: B027
        """Show a run's figures to whatever watches this kind of runner; called every second or so."""

    @abstractmethod
    def close(self) -> None:
        """Free everything the runner started."""
