"""Stages with an engine as the driver sees them: what waits, what is under way, and engines that sleep and wake."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from cluster.pools.replicas import Replicas
from cluster.pools.scorers import Scorers
from cluster.stages.flights import Flights
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState


@dataclass(frozen=True, eq=False)
class SamplingEngines:
    """A sampling stage and its replicas."""

    state: SampleState
    replicas: Replicas

    @property
    def waiting(self) -> bool:
        return self.state.draws

    @property
    def under_way(self) -> bool:
        return self.replicas.outstanding(self.state) > 0

    def sleep(self) -> list[Future[None]]:
        return self.replicas.sleep(self.state)

    def wake(self) -> list[Future[None]]:
        return self.replicas.wake(self.state)


@dataclass(frozen=True, eq=False)
class ScoringEngines:
    """A stage that asks an engine: its pool of workers, and the work at them."""

    state: StageState
    scorers: Scorers
    flights: Flights

    @property
    def waiting(self) -> bool:
        return self.state.waiting

    @property
    def under_way(self) -> bool:
        return self.flights.any

    def sleep(self) -> list[Future[None]]:
        return self.scorers.sleep()

    def wake(self) -> list[Future[None]]:
        return self.scorers.wake()
