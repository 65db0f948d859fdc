"""Whether a run gets on, and if not, what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cluster.pools.replicas import Replicas
from cluster.stages.flights import Flights
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState

KNOWN_SECONDS = 10.0
"""A run that hasn't got on for so long, and knows what it waits for, says so."""


class Health:
    """Watches a run's figures; the driver's loop calls it.

    Args:
        seconds: a run that hasn't got on for so long waits for something, whether it knows for what or not.
        clock: seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._figures: object = None
        self._since = clock()

    def stalled(self, figures: object, known: bool = False) -> float | None:
        """Return for how many seconds nothing has changed, once that is too long; None while the run gets on.

        Args:
            known: whether something is known to be in the way, which is told sooner.
        """
        now = self._clock()
        if figures != self._figures:
            self._figures, self._since = figures, now
            return None
        waited = now - self._since
        return waited if waited >= (min(KNOWN_SECONDS, self.seconds) if known else self.seconds) else None


def progress_of(states: Iterable[StageState], replicas: Replicas) -> object:
    """Return what changes whenever a run gets on."""
    return tuple((s.name, s.record.computed, s.record.failed, s.complete) for s in states), replicas.progress()


def what_it_waits_for(states: Iterable[StageState], replicas: Replicas, flights: Iterable[Flights]) -> str:
    """Return why a run stands still, for people: the first thing that is in the way."""
    reasons = replicas.waits_for()
    for state in states:
        if isinstance(state, SampleState) and state.purse is not None and state.draws and not state.complete:
            account = state.purse.account
            if account.reserved.samples and not account.gate_open:
                reasons.append(f"stage {state.name}: the first samples are being judged before more is spent")
            elif account.reserved.samples:
                reasons.append(
                    f"stage {state.name}: the budget: {account.reserved.samples:,} samples are out, reserved at their "
                    "worst case, and no other fits"
                )
    reasons += [reason for found in flights for reason in found.waits_for()]
    return "; ".join(dict.fromkeys(reasons)) or "nothing that is known: no work is out and nothing is ready"
