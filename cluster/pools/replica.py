"""A replica: one engine worker of a stage, as the driver sees it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from cluster.records.bill import Amount
from cluster.runners.runner import WorkerHandle
from cluster.stages.states import StageState
from cluster.storage.ranges import RangeSet
from cluster.working.engine_worker import EngineJob, EngineWorker, Ready, Report
from cluster.working.work import Done
from schemas.manifest import ReplicaRecord


@dataclass(eq=False)
class Replica:
    """One engine worker."""

    number: int
    state: StageState
    handle: WorkerHandle[EngineWorker]
    ready: Ready | None = None
    collecting: Future[Report] | None = None
    """The report that is on its way."""
    trouble: str = ""
    """Why its engine doesn't answer, where that is known."""
    earlier: ReplicaRecord | None = None
    """What the engines before it, in its place, did."""

    # of a sampling stage
    assigned: RangeSet = field(default_factory=RangeSet)
    given: int = 0
    """Samples assigned since it started."""
    rate: float = 0.0
    """Samples a second, smoothed."""
    drawn: int = 0
    asked: float = 0.0
    trial: frozenset[int] = frozenset()
    """Suspects that it is tried with, and nothing else."""
    tried: bool = False
    """Whether it was given them."""

    # of a stage that asks
    under_way: dict[int, Future[Done]] = field(default_factory=dict[int, "Future[Done]"])
    """Number of a task -> what the flights wait for."""
    lent: Amount = field(default_factory=Amount)
    """Credit that it has, as far as is known."""
    wants: Amount = field(default_factory=Amount)
    first: Amount = field(default_factory=Amount)
    """What its calls want, and what the first that waits needs (``Report``)."""
    in_flight: int = 0
    """Calls that are paid and not answered."""

    @property
    def outstanding(self) -> int:
        """Samples it has still to draw."""
        return self.given - self.drawn

    @property
    def busy(self) -> bool:
        """Whether its engine has something to do."""
        return self.outstanding > 0 or bool(self.under_way)


class Feed(Protocol):
    """What the replicas of one stage are given, and what is made of what they say."""

    @property
    def state(self) -> StageState: ...

    @property
    def waiting(self) -> bool:
        """Whether there is something to begin."""
        ...

    @property
    def holds(self) -> bool:
        """Whether the run can't end while there are replicas, since more may be wanted of them."""
        ...

    def job(self, run_id: str, flush_rows: int, flush_seconds: float) -> EngineJob: ...

    def on_loaded(self, replica: Replica) -> None:
        """Hear that a replica's engine is there."""
        ...

    def on_report(self, replica: Replica, report: Report) -> bool:
        """Take a report; return whether the engine did something since the last one."""
        ...

    def plan(self, replica: Replica) -> Callable[[], None] | None:
        """Decide what a replica gets next, and note it in the books; return what sends it once they are written."""
        ...

    def finished_with(self, replica: Replica) -> bool:
        """Whether a replica can be ended."""
        ...

    def on_died(self, replica: Replica, error: BaseException) -> int:
        """Take back what a dead replica had; return how many more deaths in a row that explains."""
        ...

    def on_ended(self, replica: Replica, reported: bool) -> None:
        """Let go of a replica that was ended; without its last report, take back what it had."""
        ...
