"""Watching a run from inside: its log of events, its figures for whoever looks, why it stands still when it does."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from cluster.driving.health import Health, progress_of, what_it_waits_for
from cluster.pools.replicas import Replicas
from cluster.records.events import EventLog
from cluster.records.recorder import RunRecorder
from cluster.records.run import Observer
from cluster.runners.runner import Runner
from cluster.stages.flights import Flights
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState
from schemas.job import RunSettings
from schemas.orders import Answered

UPDATE_SECONDS = 0.2
"""How often the observer is told."""
LOOK_SECONDS = 1.0
"""How often figures are published, and the run's health is looked at."""


class Watch:
    """Everything that is said about one run while it goes on."""

    def __init__(self, recorder: RunRecorder, runner: Runner, settings: RunSettings, observer: Observer | None) -> None:
        self.recorder = recorder
        self.manifest = recorder.manifest
        self.runner = runner
        self.observer = observer
        self.log = EventLog(recorder.root, self.manifest.run_id)
        self.health = Health(settings.stall_seconds)
        self._updated = self._looked = 0.0
        self._told: set[str] = set()
        """Stages of which the log has it that they are complete."""

    def say(self, text: str, stage: str | None = None) -> None:
        """Tell people, and note it. See ``Say``."""
        text = text if stage is None else f"stage {stage}: {text}"
        self.log.add("note", text, stage=stage)
        if self.observer is not None:
            self.observer.say(text)

    def on_order(self, order: Answered) -> None:
        """Tell people of an order and its answer, and note it."""
        told = (
            f"{order.what}: {order.answer}" if order.result == "applied" else f"{order.what}: refused: {order.answer}"
        )
        self.log.add("order", told, action=order.action, by=order.by, reason=order.reason or None, result=order.result)
        self.log.flush()
        if self.observer is not None:
            self.observer.say(f"{order.whose}: {told}")

    def look(
        self,
        states: Mapping[str, StageState],
        replicas: Replicas,
        flights: Sequence[Flights],
        now: bool = False,
    ) -> None:
        """Tell whoever watches how far the run is; once a second also look whether it gets on."""
        at = time.monotonic()
        if self.observer is not None and (now or at - self._updated >= UPDATE_SECONDS):
            self._updated = at
            drawn = replicas.drawn()
            live = {name: max(0, count - states[name].record.computed) for name, count in drawn.items()}
            self.observer.update(self.manifest, live)
        if not (now or at - self._looked >= LOOK_SECONDS):
            return
        self._looked = at
        for state in states.values():
            state.record.queued = sum(found.rows_of(state) for found in flights)
            if isinstance(state, SampleState):
                state.record.queued += replicas.outstanding(state)
            if state.complete and state.name not in self._told:
                self._told.add(state.name)
                self.log.add("stage done", stage=state.name, rows=state.record.computed, reused=state.record.reused)
        self._see_whether_it_gets_on(states, replicas, flights)
        self.runner.publish(self.manifest)
        self.log.flush(now=False)

    def _see_whether_it_gets_on(
        self,
        states: Mapping[str, StageState],
        replicas: Replicas,
        flights: Sequence[Flights],
    ) -> None:
        if (order := self.manifest.paused) is not None:
            self.manifest.waits_for = f"resume: it is paused by {order.whose}"
            return
        known = replicas.known_waits()
        waited = self.health.stalled(progress_of(states.values(), replicas), bool(known))
        before = self.manifest.waits_for
        reason = None
        if waited is not None:
            reason = "; ".join(known) or what_it_waits_for(states.values(), replicas, flights)
        self.manifest.waits_for = reason
        if _kind(reason) == _kind(before):
            return  # "next try in 30 s", "in 29 s": the manifest is written now and then in any case
        if reason is None:
            self.say("it goes on")
        elif before is None:
            self.say(f"nothing has happened for {waited:.0f} s. Waiting for: {reason}")
        self.log.add("waiting" if reason else "going on", reason or "")
        self.recorder.show()


def _kind(reason: str | None) -> str | None:
    """Return a reason without its numbers."""
    return None if reason is None else re.sub(r"\d+", "#", reason)
