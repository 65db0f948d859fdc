"""A replica: one engine worker of a stage, as the driver sees it."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass, field

from cluster.records.bill import Amount
from cluster.runners.runner import WorkerHandle
from cluster.stages.states import StageState
from cluster.storage.ranges import RangeSet
from cluster.working.engine_worker import EngineWorker
from cluster.working.reports import Ready, Report
from cluster.working.work import Done
from schemas.manifest import ReplicaRecord


@dataclass
class Credit:
    """The credit of one role's calls at one worker.

    Attributes:
        lent: what it has, as far as is known.
        wants, first, in_flight: as ``cluster.working.reports.Dues``.
    """

    lent: Amount = field(default_factory=Amount)
    wants: Amount = field(default_factory=Amount)
    first: Amount = field(default_factory=Amount)
    in_flight: int = 0


@dataclass(eq=False)
class Replica:
    """One engine worker."""

    number: int
    state: StageState
    role: str
    """The role that its engine plays for the stage's own; empty where it is that."""
    handle: WorkerHandle[EngineWorker]
    ready: Ready | None = None
    collecting: Future[Report] | None = None
    """The report that is on its way."""
    trouble: str = ""
    """Why its engine doesn't answer, where that is known."""
    refusal: str = ""
    """What its engine refuses everything with, where it does."""
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
    # of one that plays a role for others
    answered: int = 0
    """Calls that it answered, as far as is known."""

    credit: defaultdict[str, Credit] = field(default_factory=lambda: defaultdict(Credit))
    """Of each role's calls."""

    @property
    def pool(self) -> tuple[StageState, str]:
        """Whose replicas it is one of."""
        return self.state, self.role

    @property
    def who(self) -> str:
        """Which one it is, for people."""
        role = f", role {self.role}" if self.role else ""
        return f"stage {self.state.name}{role}, replica {self.number}"

    @property
    def lent(self) -> Amount:
        """Credit that it has, as far as is known."""
        return sum((one.lent for one in self.credit.values()), Amount())

    @property
    def first(self) -> Amount:
        """What the first call needs that waits for credit."""
        return next((one.first for one in self.credit.values() if one.first), Amount())

    @property
    def in_flight(self) -> int:
        """Calls that are paid and not answered."""
        return sum(one.in_flight for one in self.credit.values())

    @property
    def outstanding(self) -> int:
        """Samples it has still to draw."""
        return self.given - self.drawn

    @property
    def busy(self) -> bool:
        """Whether its engine has something to do."""
        return self.outstanding > 0 or bool(self.under_way)
