"""The driver: one event loop that moves a pipeline through a runner.

It submits what is ready, hears of what is finished, and commits parts in groups every second or so; committed ranges
wake the stages that read them. It holds counts and ranges, not rows. Everything durable is in stores and snapshots, so
a driver that dies is started again and goes on from what was committed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

from cluster.driving.claims import Claims
from cluster.driving.containment import check_sandbox
from cluster.driving.control import Control
from cluster.driving.ending import lost_root, outcome, what_is_lacking, with_reasons
from cluster.driving.events import Events
from cluster.driving.keep_alive import KeepAlive
from cluster.driving.left_out import LeftOut
from cluster.driving.money import Money
from cluster.driving.steering import Steering
from cluster.driving.watch import Watch
from cluster.planning.plan import RunPlan
from cluster.pools.replicas import Replicas
from cluster.pools.sampling import SamplingFeed
from cluster.pools.serving import RoleFeed
from cluster.pools.stage_engines import StageEngines
from cluster.pools.turns import Turns
from cluster.records.recorder import RunRecorder
from cluster.records.refused import refused, told
from cluster.records.rules import rules_of_store
from cluster.records.run import Observer, RunResult
from cluster.runners.interruption import Interruption
from cluster.runners.runner import Runner
from cluster.spending.books import Books
from cluster.spending.source import view_of
from cluster.stages.flights import Flight, Flights, Workers
from cluster.stages.making import make_state, make_states
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState, StoreState
from cluster.storage.ranges import Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.working.compaction import Merge
from cluster.working.work import Done, Task
from pipelines.graph import Pipeline
from schemas.engine import EngineSpec
from schemas.errors import (
    ClusterLost,
    GristmillError,
    LeaseLost,
    RootLost,
    RunIncomplete,
    StorageFull,
    StorageUnavailable,
    StoreBusy,
)
from schemas.job import RunSettings
from schemas.manifest import RunState

RESUMABLE = (RunIncomplete, ClusterLost, RootLost, StorageFull, StorageUnavailable, LeaseLost, StoreBusy)
"""Errors that end a run in good order: the same command goes on later."""
REPORT_SECONDS = 1.0
"""In so many seconds every worker has told what it waits for."""


def run_pipeline(
    pipeline: Pipeline,
    runner: Runner,
    root: str = "./gristmill-data",
    settings: RunSettings | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Run or resume ``pipeline`` under ``root`` on ``runner``, and return what became of it.

    Raises:
        BadInput: something can't be used; nothing was started.
        StageFailed, ContractViolation, EngineFailed: the run ended; what was committed stays.
    """
    return Driver(pipeline, root, runner, settings or RunSettings(), observer).run()


class Driver:
    """Runs one pipeline once. Use ``run_pipeline``."""

    def __init__(
        self, pipeline: Pipeline, root: str, runner: Runner, settings: RunSettings, observer: Observer | None
    ) -> None:
        self.pipeline = pipeline
        self.root = Root.at(root)
        self.runner = runner
        self.settings = settings
        self.events = Events()
        self.interruption = Interruption()
        self.recorder = RunRecorder(self.root, pipeline, runner.name, settings)
        self.manifest = self.recorder.manifest
        self.watch = Watch(self.recorder, runner, settings, observer)
        self.claims = Claims(self.root, self.manifest.run_id, settings)
        self.keep_alive = KeepAlive(self.claims, self.recorder, settings.lease_seconds)
        self.turns = Turns(settings.turn_seconds)
        self.books = Books(self.root, self.manifest.run_id)
        self.money = Money(self.root, settings, self.manifest, self.books, self.watch.say)
        self.control = Control(self.root, self.manifest, self.money, self.watch.say)
        self.left_out = LeftOut(self.control, self.recorder, self.watch)
        self.flights = self._make_flights(runner)
        self.replicas = Replicas(
            runner, settings, self.manifest.run_id, self.books, self.events.when_done, self.turns.awake,
            self.money.on_short, self.watch.say,
        )  # fmt: skip
        others = self.left_out, self.recorder, self.watch, self.interruption
        self.steering = Steering(self.root, self.control, self.replicas, *others)
        self.asking: dict[StageState, Flights] = {}
        """Of stages that ask an engine: the work at their replicas."""
        self.states: dict[str, StageState] = {}
        self._settled = False
        """Whether all views are known."""
        self._last_commit = self._shown = 0.0

    def run(self) -> RunResult:
        """Plan, execute, record. See ``run_pipeline``."""
        self.root.check_writable()
        with self.interruption, self.keep_alive:
            try:
                plan = self.claims.make_plan(self.pipeline, self.watch.say, self.interruption)
                self._execute(plan)
            finally:
                self.claims.release()
        return RunResult(self.manifest, self.root)

    def _begin(self, plan: RunPlan) -> None:
        self.states = make_states(plan)
        self.manifest.notes = list(plan.notes)
        for note in plan.notes:
            self.watch.say(note)
        check_sandbox(self.states.values(), self.runner, self.settings.allow_unsafe_execution, self.watch.say)
        self.steering.begin(self.states)
        self.control.begin(plan, self.states)
        self._place_engines()
        self.manifest.stages = [state.record for state in self.states.values()]
        self._record_views(plan)
        self.keep_alive.start_beating()
        about = {"pipeline": self.pipeline.name, "problems": self.manifest.n_problems, "job": self.manifest.job}
        self.watch.log.add("begin", **about)
        source = next(iter(plan.stages.values()))
        state = self.states[source.stage.name]
        assert source.snapshot is not None
        if source.action != "reuse":
            parts = source.snapshot.write_in_order(plan.problems.tables(self.root))
            source.snapshot.finish(parts, source.stage.operator.fingerprint(), {})
            plan.problems.kept_in(NumberedRows.of(source.snapshot))
        state.record.computed = source.planned - source.held
        state.record.complete = True
        self.steering.open()

    def _place_engines(self, placed: bool = False) -> None:
        """See that the engines of all stages with something to do can be had; say who takes turns with whom.

        Args:
            placed: whether sample-scope stages have theirs already.
        """
        members: dict[StageState, StageEngines] = {}
        engines: list[EngineSpec] = []
        for state in self.states.values():
            spec = state.plan.stage.engine
            if spec is None or state.complete or (placed and isinstance(state, StoreState)):
                continue
            if isinstance(state, SampleState):
                commit = partial(self._commit, now=True)
                hears = self.events.when_done, commit, self.left_out.leave_out, self.left_out.skip
                roles = [RoleFeed(state, role, self.books) for role in state.plan.stage.pools]
                feed = SamplingFeed(state, self.books, *hears, self.turns.awake, roles)
                for each in (feed, *roles):
                    self.replicas.add(each)
            else:
                self.asking[state] = self._make_flights(self.replicas.asking(state))
            members[state] = StageEngines(state, self.replicas, self.asking.get(state))
        for state in self.states.values():
            if not state.complete and state.plan.stage.engine is not None:
                engines += [state.plan.stage.engine, *state.plan.stage.pools.values()]
        self.runner.check(engines)
        self.turns.add_all(members.items())

    def _make_flights(self, workers: Workers) -> Flights:
        hears = self.events.when_done, self._on_landed, self.left_out.on_quarantined, self.watch.say
        return Flights(workers, self.settings, *hears)

    @property
    def _all_flights(self) -> list[Flights]:
        return [self.flights, *self.asking.values()]

    @property
    def _flying(self) -> bool:
        return any(flights.any for flights in self._all_flights)

    def _abandon(self) -> None:
        """Give all work up (the run is ending)."""
        for flights in self._all_flights:
            flights.abandon()

    def _stop_engines(self) -> None:
        """Send nothing more to any engine; what was drawn is kept, and what was answered to unfinished work."""
        for flights in self.asking.values():
            flights.abandon()
        self.replicas.stop()

    def _execute(self, plan: RunPlan) -> None:
        try:
            self._begin(plan)
            self._loop()
            if self._views_change and not self.interruption.requested:
                self._go_on_with_views(plan)
                self._loop()
            self.replicas.stop()  # their last bills are this run's
            self._finish(outcome(self.states.values(), self.money, self.interruption, self.manifest))
        except KeyboardInterrupt:  # the second signal: at once
            self._abandon()
            self._rescue()
            self._finish("interrupted")
        except BaseException as caught:
            self._abandon()
            if not isinstance(caught, LeaseLost):
                self._rescue()
            error = with_reasons(caught, self.states.values(), lambda: told(refused(self.root, self.manifest)))
            lost = None if isinstance(error, RESUMABLE) else lost_root(self.states.values(), self.recorder)
            error = lost or error
            self.manifest.error = str(error)
            self._finish("incomplete" if isinstance(error, RESUMABLE) else "failed")
            raise error from (None if error is caught else caught)
        finally:
            self.replicas.stop()

    @property
    def _views_change(self) -> bool:
        """Whether later stages read something else than was planned: what policies drew, or what wasn't skipped."""
        return self.control.adaptive or any(state.record.skipped for state in self.states.values())

    def _go_on_with_views(self, plan: RunPlan) -> None:
        """Now that nothing more is drawn: what there is of each problem is what later stages read."""
        self._settled = True
        views: dict[str, Ranges] = {}
        for state in self.states.values():
            if isinstance(state, SampleState) and (state.source is not None or state.record.skipped):
                views[state.name] = view_of(len(plan.problems), state.operator.per_problem, state.store.held)
        rules = {name: rules_of_store(self.root, plan.stages[name].folder) for name in views}
        rules = {name: found for name, found in rules.items() if found.uris}
        plan = self.claims.plan_again(self.pipeline, plan, views, rules)
        for name, state in self.states.items():
            if isinstance(state, StoreState):
                state.read_view(plan, plan.stages[name])
            elif not state.complete:
                self.states[name] = make_state(plan, plan.stages[name], self.states)
        self.money.go_on(self.states)
        self.manifest.stages = [state.record for state in self.states.values()]
        self._place_engines(placed=True)
        self._record_views(plan)

    def _record_views(self, plan: RunPlan) -> None:
        stores = (stage for stage in plan.stages.values() if stage.store is not None)
        views = {stage.stage.name: stage.view.tables(plan.problems) for stage in stores}
        self.recorder.begin(plan.problem_view, len(plan.problems), views)

    # -- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            if self.interruption.requested:
                self._wind_down()
                return
            self._submit_ready()
            self.replicas.top_up()
            self.events.hear(0.2)
            self.steering.look()
            self.replicas.top_up()
            self._commit()
            if self.money.look():
                self._stop_engines()
            for flights in self._all_flights:
                flights.look_after()
            self.turns.go_on()
            self._show()
            self.watch.look(self.states, self.replicas, self._all_flights)
            if self._idle and not self.steering.paused:
                self._submit_ready()  # what was committed just now may have made work
                if self._idle:
                    return

    @property
    def _idle(self) -> bool:
        """Whether nobody works, nothing waits to be committed or taken out, and no stage waits for its turn."""
        unwritten = any(s.has_uncommitted or s.cutting for s in self.states.values() if isinstance(s, StoreState))
        return not (self._flying or unwritten or self.turns.unfinished or self.replicas.holding)

    def _submit_ready(self) -> None:
        """Submit ready work while there is room; start replicas where there is something for them to do."""
        for flights in self._all_flights if not self.steering.paused else ():
            flights.submit_waiting()
        for state in self.states.values():
            if not self.turns.awake(state) or self._waits_for_view(state):
                continue
            self.replicas.start_where_needed(state)
            flights = self.asking.get(state, self.flights)
            if self.steering.paused or flights.room <= 0:
                continue
            for work in state.tasks():
                flights.submit(state, work)
                if flights.room <= 0:
                    break
        for state in self.states.values():
            if isinstance(state, StoreState) and self.flights.room > 0 and (merge := state.merge()) is not None:
                self.flights.submit(state, merge)

    def _waits_for_view(self, state: StageState) -> bool:
        """Whether what a stage reads isn't known before a policy has ended."""
        return self._views_change and not self._settled and not isinstance(state, StoreState)

    def _on_landed(self, flight: Flight, done: Done) -> None:
        state, work = flight.state, flight.work
        if isinstance(work, Merge):
            assert isinstance(state, StoreState)
            state.on_merged(work, done)
            return
        state.on_finished(work, done)
        if isinstance(work, Task) and not isinstance(state, StoreState):
            for other in self.states.values():
                other.on_snapshot_part(state.name, work.index)

    def _commit(self, now: bool = False) -> None:
        """Commit what waits, in groups (at once where nobody is working); then tell every stage what became a fact."""
        now = now or not (self.replicas.holding or self._flying)
        if not now and time.monotonic() - self._last_commit < self.settings.commit_seconds:
            return
        self._last_commit = time.monotonic()
        self.books.flush()  # a bill stands in them before what it paid for is a fact
        for state in self.states.values():
            if isinstance(state, StoreState) and state.has_uncommitted:
                ranges = state.commit()
                for part in state.fresh:
                    self.watch.log.add("commit", stage=state.name, part=part.name, rows=part.rows)
                if isinstance(state, SampleState):
                    self.replicas.on_committed(state, ranges)
                self.control.on_committed(state, ranges)
                for other in self.states.values():
                    other.on_committed(state.name, ranges)

    def _show(self) -> None:
        """See that the run is still ours; now and then, write how far it is."""
        self.keep_alive.check()
        if time.monotonic() - self._shown >= self.settings.lease_seconds / 4:
            self._shown = time.monotonic()
            self.recorder.show()

    # -- the end -------------------------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """After the first signal: nothing new is begun; what is in flight gets its grace, what was drawn is kept."""
        grace = self.settings.grace_seconds
        why = self.interruption.requested
        self.watch.say(f"{why}: stopping; what is in flight has {grace:.0f} s to finish (again: stop now)")
        until = time.monotonic() + grace
        self.replicas.drain(grace)
        self._commit(now=True)
        worked = time.monotonic()
        while self._flying and time.monotonic() < min(until, worked + REPORT_SECONDS):
            self.events.hear(0.2)
            self._show()
            if self.flights.any or not self.replicas.penniless:  # money is lent no more
                worked = time.monotonic()
        self._abandon()
        self.replicas.stop()
        self._commit(now=True)

    def _rescue(self) -> None:
        """After a failure or a second signal: keep what was drawn."""
        try:
            self.replicas.stop()
            self._commit(now=True)
        except Exception as error:
            self.watch.say(f"what was drawn last could not be committed: {error}")

    def _finish(self, state: RunState) -> None:
        self.steering.close(state == "done")
        self.manifest.state = state
        self.manifest.finished = datetime.now(UTC)
        self.manifest.error = what_is_lacking(self.states.values(), self.recorder, self.manifest.error)
        self.manifest.waits_for = None
        self.watch.look(self.states, self.replicas, self._all_flights, now=True)
        self.watch.log.add("end", self.manifest.error or "", state=state)
        self.watch.log.flush()
        try:
            self.control.finish()
        except GristmillError as error:  # a full disk: the next run on the account settles, by what the books say
            self.watch.say(f"the run could not be settled: {error}")
        try:
            self.keep_alive.stop_beating()
            self.recorder.end()
            self.steering.conclude()
        except GristmillError as error:
            self.watch.say(f"the run's last manifest could not be written: {error}")
