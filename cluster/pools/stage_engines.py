"""Stages with an engine as turns see them: what waits, what is under way, and engines that sleep and wake."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from cluster.pools.replicas import Replicas
from cluster.stages.flights import Flights
from cluster.stages.states import StageState


@dataclass(frozen=True, eq=False)
class StageEngines:
    """A stage and its replicas.

    Attributes:
        flights: the work at them, where the stage asks.
    """

    state: StageState
    replicas: Replicas
    flights: Flights | None = None

    @property
    def waiting(self) -> bool:
        return self.state.waiting

    @property
    def under_way(self) -> bool:
        if self.flights is not None:
            return self.flights.any
        return self.replicas.outstanding(self.state) > 0

    def sleep(self) -> list[Future[None]]:
        return self.replicas.sleep(self.state)

    def wake(self) -> list[Future[None]]:
        return self.replicas.wake(self.state)
