"""Replicas: the sampling workers of a run. They are kept fed, heard, replaced when they die, and drained at the end.

A replica's queue holds twice what its engine takes at once, or two seconds of work where that is more, so the engine
never waits for the driver. What a dead replica had been given and not delivered is drawn again, by whoever is next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cluster.flights import Handle
from cluster.runner import Runner, SamplerHandle
from cluster.sampler import Ready, Report, SamplingJob
from cluster.states import SampleState, begun_slice, input_slice
from cluster.storage.ranges import Range, RangeMap
from operators.sample.sample import Sample
from schemas.errors import BadInput, EngineFailed, GristmillError, WorkerLost
from schemas.job import RunSettings
from schemas.manifest import EngineRecord


@dataclass(eq=False)
class Replica:
    """A sampling worker as the driver sees it."""

    number: int
    state: SampleState
    handle: SamplerHandle
    ready: Ready | None = None
    assigned: RangeMap = field(default_factory=RangeMap)
    given: int = 0
    """Samples assigned since it started."""
    rate: float = 0.0
    """Samples a second, smoothed."""
    drawn: int = 0
    asked: float = 0.0
    collecting: Future[Report] | None = None
    """The report that is on its way."""

    @property
    def outstanding(self) -> int:
        """Samples it has still to draw."""
        return self.given - self.drawn


class Replicas:
    """All sampling workers of a run; the driver's loop calls it.

    Args:
        handle: queues a callback for a future's end into the driver's loop.
        commit: commits what was delivered so far, now (before a dead replica's work is given out again).
    """

    def __init__(
        self,
        runner: Runner,
        settings: RunSettings,
        run_id: str,
        handle: Handle,
        commit: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.run_id = run_id
        self._handle = handle
        self._commit = commit
        self._say = say
        self._all: list[Replica] = []
        self._deaths = 0
        """In a row, without a sample in between."""

    @property
    def any(self) -> bool:
        return bool(self._all)

    def start_where_needed(self, state: SampleState) -> None:
        """Start a stage's replicas once it has something to draw."""
        if not state.draws or any(replica.state is state for replica in self._all):
            return
        spec = state.plan.stage.engine
        assert spec is not None
        for number in range(spec.replicas):
            self._start(state, number)

    def drawn(self) -> dict[str, int]:
        """Return stage -> samples drawn by living replicas, committed or not."""
        counts: dict[str, int] = {}
        for replica in self._all:
            counts[replica.state.name] = counts.get(replica.state.name, 0) + replica.drawn
        return counts

    def committed(self, state: SampleState, ranges: list[Range]) -> None:
        """Hear what became a fact: it is no longer at stake."""
        for replica in self._all:
            if replica.state is state:
                for item in ranges:
                    replica.assigned.remove(item)

    def _start(self, state: SampleState, number: int) -> None:
        """Start a replica; the loop goes on while its engine loads."""
        plan, operator = state.plan, state.plan.stage.operator
        assert plan.stage.engine is not None and isinstance(operator, Sample)
        job = SamplingJob(
            stage=state.name,
            operator=operator,
            engine=plan.stage.engine,
            root=state.run.root.url,
            folder=plan.folder,
            problems=input_slice(state.upstream("problems"), [], None),
            run_id=self.run_id,
            flush_rows=self.settings.flush_rows,
            flush_seconds=self.settings.flush_seconds,
        )
        replica = Replica(number, state, self.runner.sampler(job))
        self._all.append(replica)

        def loaded(future: Future[Any]) -> None:
            error = future.exception()
            if isinstance(error, WorkerLost):
                self._died(replica, error)
            elif error is not None and not isinstance(error, GristmillError):
                raise EngineFailed(f"stage {state.name}: the engine could not be started: {error}") from error
            else:
                self._loaded(replica, future.result())

        self._handle(replica.handle.call("start"), loaded)

    def _loaded(self, replica: Replica, ready: Ready) -> None:
        """Before anything is sampled, the first replica measures the prompts; then work is handed out."""
        state = replica.state
        replica.ready = ready
        state.record.engine = EngineRecord(**vars(ready.info))
        if replica.number == 0 and not state.prompts_checked:
            keys = list(dict.fromkeys(item.problem_key for item in state.pending))
            self._handle(replica.handle.call("too_long", keys), lambda done: self._prompts_measured(replica, done))
        self._ask(replica)

    def _prompts_measured(self, replica: Replica, future: Future[list[tuple[str, int]]]) -> None:
        if isinstance(future.exception(), WorkerLost):
            return  # its next report tells, and another replica measures
        refused, state, ready = future.result(), replica.state, replica.ready
        operator = state.plan.stage.operator
        assert isinstance(operator, Sample) and ready is not None
        if refused:
            listed = ", ".join(f"'{name}' ({tokens} tokens)" for name, tokens in refused[:5])
            raise BadInput(
                f"stage {state.name}: the prompt of {len(refused)} problem(s) leaves no room for max_tokens = "
                f"{operator.max_tokens} in the engine's context of {ready.info.context} tokens: {listed}. Raise "
                f"engine.context, lower {state.name}.max_tokens, or leave these problems out"
            )
        state.prompts_checked = True

    def _ask(self, replica: Replica) -> None:
        """Ask a replica for its next report; it answers when it has news."""

        def answered(future: Future[Any]) -> None:
            if replica not in self._all:
                return  # it was ended meanwhile, and this report was taken there
            replica.collecting = None
            error = future.exception()
            if error is None:
                self._reported(replica, future.result())
            elif isinstance(error, WorkerLost) or not isinstance(error, GristmillError):
                self._died(replica, error)
            else:
                raise error

        replica.collecting = replica.handle.call("collect")
        self._handle(replica.collecting, answered)

    def _reported(self, replica: Replica, report: Report) -> None:
        now = time.monotonic()
        elapsed = now - replica.asked if replica.asked else 0.0
        if elapsed > 0:
            replica.rate = 0.5 * replica.rate + 0.5 * (report.drawn - replica.drawn) / elapsed
        if report.drawn > replica.drawn:
            self._deaths = 0
        replica.asked, replica.drawn = now, report.drawn
        self._take(replica, report)
        state = replica.state
        state.touch()
        if self._top_up(replica) or replica.outstanding or not state.prompts_checked:
            self._ask(replica)
        else:
            self._retire(replica)

    def _take(self, replica: Replica, report: Report) -> None:
        state = replica.state
        state.uncommitted += report.parts
        state.record.busy_seconds += report.busy_seconds
        state.lost += report.failed
        for key, index, _ in report.failed:
            replica.assigned.remove(Range(key, index, 1))

    def top_up(self) -> None:
        """Feed all that run low."""
        for replica in self._all:
            if replica.state.pending:
                self._top_up(replica)

    def _top_up(self, replica: Replica) -> int:
        """Keep a replica's queue at twice its capacity, or two seconds of work where that is more."""
        state = replica.state
        if replica.ready is None or not state.prompts_checked:
            return 0
        wanted = max(2 * replica.ready.capacity, int(2 * replica.rate))
        if replica.outstanding > wanted / 2:
            return 0
        ranges = state.take(wanted - replica.outstanding)
        if not ranges:
            return 0
        for item in ranges:
            replica.assigned.add(item)
        count = sum(item.size for item in ranges)
        replica.given += count
        begun = begun_slice(state.plan.extends, ranges) if state.plan.extends is not None else None
        replica.handle.call("assign", ranges, begun)
        return count

    def _retire(self, replica: Replica) -> None:
        self._all.remove(replica)
        self._end(replica, replica.handle.call("stop"), 60)

    def _end(self, replica: Replica, future: Future[Report], seconds: float) -> None:
        try:
            if replica.collecting is not None:
                self._take(replica, replica.collecting.result(timeout=seconds))
            self._take(replica, future.result(timeout=seconds))
        except Exception as error:  # it is going away either way; what it drew and didn't write is drawn again
            self._say(f"stage {replica.state.name}: a replica ended without its last report: {error}")
        replica.handle.kill()

    def _died(self, replica: Replica, error: BaseException) -> None:
        """Take its unfinished work back and start another, a bounded number of times in a row."""
        self._all.remove(replica)
        replica.handle.kill()
        self._deaths += 1
        if self._deaths > self.settings.engine_restarts:
            raise EngineFailed(
                f"stage {replica.state.name}: the engine died {self._deaths} times without drawing anything in "
                f"between; last: {error}"
            ) from error
        self._say(f"stage {replica.state.name}: replica {replica.number} died ({error}); starting another")
        self._commit()
        replica.state.give_back(list(replica.assigned))
        self._start(replica.state, replica.number)

    def drain(self, seconds: float) -> None:
        """Let all finish what is in flight, for up to ``seconds``, and take what they drew."""
        replicas, self._all = self._all, []
        futures = [(replica, replica.handle.call("drain", seconds)) for replica in replicas]
        for replica, future in futures:
            self._end(replica, future, seconds + 60)

    def stop(self) -> None:
        """End all now; what is in flight is dropped, what was drawn is kept."""
        self.drain(0.0)
