"""The feed: what the pool of replicas asks of a stage that has some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.pools.lending import Lending
from cluster.pools.replica import Replica
from cluster.stages.states import StageState
from cluster.working.engine_worker import EngineJob
from cluster.working.reports import Report
from schemas.engine import EngineSpec


class Feed(Protocol):
    """What the replicas of one stage are given, and what is made of what they say."""

    @property
    def state(self) -> StageState: ...

    @property
    def role(self) -> str:
        """The role that they play for the stage's own replicas; empty where they are these."""
        ...

    @property
    def spec(self) -> EngineSpec: ...

    @property
    def lending(self) -> Lending:
        """How the calls of its workers are paid."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether there is something to begin."""
        ...

    @property
    def needed(self) -> bool:
        """Whether something that is under way can't be finished without its replicas."""
        ...

    @property
    def holds(self) -> bool:
        """Whether the run can't end while there are replicas, since more may be wanted of them."""
        ...

    def job(self, run_id: str, flush_rows: int, flush_seconds: float) -> EngineJob: ...

    def on_started(self, replica: Replica) -> None:
        """Hear that a replica is being started."""
        ...

    def on_loaded(self, replica: Replica) -> None:
        """Hear that a replica's engine is there."""
        ...

    def on_report(self, replica: Replica, report: Report) -> bool:
        """Take a report; return whether the engine did something since the last one."""
        ...

    def plan(self, replica: Replica) -> list[Callable[[], None]]:
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
