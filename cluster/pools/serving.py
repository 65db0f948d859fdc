"""The replicas that play a role for a stage's own. They are given nothing; these ask them, at addresses from here.

They are there while the stage may want them. One that died is replaced, and those who ask hear where the new one is.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.pools.lending import Lending
from cluster.pools.replica import Replica
from cluster.spending.books import Books
from cluster.stages.sample_state import SampleState
from cluster.working.engine_worker import EngineJob, EngineWorker
from cluster.working.reports import Ready, Report
from schemas.errors import NodeLost

FEW = 10
"""So many problems, or calls, may be left out because they kill engines (of problems one in a hundred beyond): then it
is the engine."""


class RoleFeed:
    """The replicas that play one role for one sampling stage.

    Args:
        books: of the run.
    """

    def __init__(self, state: SampleState, role: str, books: Books) -> None:
        self.state = state
        self.role = role
        self.spec = state.plan.stage.engines[role]
        self.lending = Lending(state, books)  # it lends nothing: those who ask pay
        self._replicas: list[Replica] = []
        self._askers: list[Replica] = []
        self._ready: Ready | None = None

    @property
    def waiting(self) -> bool:
        return self.state.waiting or bool(self._askers)

    @property
    def needed(self) -> bool:
        return any(asker.outstanding for asker in self._askers)

    @property
    def holds(self) -> bool:
        return False

    def job(self, run_id: str, flush_rows: int, flush_seconds: float) -> EngineJob:
        state, stage = self.state, self.state.plan.stage
        about = state.name, stage.operator, self.spec, state.run.root.url, state.plan.folder, run_id
        return EngineJob(*about, flush_rows, flush_seconds, serves=self.role)

    def on_asker(self, replica: Replica) -> None:
        """Hear of a replica that will ask; it is told where the engines are."""
        self._askers.append(replica)
        self._tell([replica])

    def on_asker_gone(self, replica: Replica) -> None:
        """Hear that it asks no more."""
        if replica in self._askers:
            self._askers.remove(replica)

    def _tell(self, askers: list[Replica]) -> None:
        if self._ready is not None:
            addresses = [one.handle.address for one in self._replicas]
            for asker in askers:
                asker.handle.call(EngineWorker.connect, self.role, addresses, self._ready)

    def on_started(self, replica: Replica) -> None:
        pass

    def on_loaded(self, replica: Replica) -> None:
        self._replicas.append(replica)
        self._ready = replica.ready
        self._tell(self._askers)

    def on_report(self, replica: Replica, report: Report) -> bool:
        got_on, replica.answered = report.activity.requests > replica.answered, report.activity.requests
        return got_on

    def plan(self, replica: Replica) -> list[Callable[[], None]]:
        return []

    def finished_with(self, replica: Replica) -> bool:
        return not (self._askers or self.state.may_want)

    def on_died(self, replica: Replica, error: BaseException) -> int:
        served = replica in self._replicas
        self.on_ended(replica, reported=False)
        return FEW if served and not isinstance(error, NodeLost) else 0

    def on_ended(self, replica: Replica, reported: bool) -> None:
        if replica in self._replicas:
            self._replicas.remove(replica)
            self._tell(self._askers)
