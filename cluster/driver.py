"""The driver: one event loop that moves a pipeline through a runner.

It submits what is ready, hears of what is finished, and commits parts in groups every second or so; committed ranges
wake the stages that read them. It holds counts and ranges, not rows. Everything durable is in stores and snapshots, so
a driver that dies is started again and goes on from what was committed.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cluster.plan import RunPlan, make_plan
from cluster.records import RunRecorder
from cluster.run import Observer, RunResult, RunSettings
from cluster.runner import Runner, SamplerHandle
from cluster.sampler import Ready, Report, SamplingJob
from cluster.states import ChunkState, DatasetState, SampleState, StageState, StoreState, StreamState, input_slice
from cluster.storage.ranges import Range, RangeMap
from cluster.storage.root import Root
from cluster.work import Done, Task
from operators.sample.sample import Sample
from pipelines.graph import Pipeline
from schemas.errors import BadInput, EngineFailed, GristmillError, StageFailed
from schemas.manifest import EngineRecord


@dataclass
class _Replica:
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

    @property
    def outstanding(self) -> int:
        """Samples it has still to draw."""
        return self.given - self.drawn


class Driver:
    """Runs one pipeline once. Use ``Runner.run``."""

    def __init__(
        self, pipeline: Pipeline, root: str, runner: Runner, settings: RunSettings, observer: Observer | None
    ) -> None:
        self.pipeline = pipeline
        self.root = Root.at(root)
        self.runner = runner
        self.settings = settings
        self.observer = observer
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.replicas: list[_Replica] = []
        self.restarts = 0
        self._last_commit = 0.0
        self._last_update = 0.0

    def run(self) -> RunResult:
        """Plan, execute, record. See ``Runner.run``."""
        self.root.check_writable()
        self.run_plan: RunPlan = make_plan(self.pipeline, self.root, self.settings.limit)
        self.states = _make_states(self.run_plan)
        self.recorder = RunRecorder(self.root, self.run_plan, self.runner.name, self.settings.command)
        self.manifest = self.recorder.manifest
        self.manifest.stages = [state.record for state in self.states.values()]
        self._write_problems()
        self.recorder.write()
        try:
            self._start_samplers()
            self._loop()
            self._finish("done" if all(state.complete for state in self.states.values()) else "incomplete")
        except KeyboardInterrupt:
            self._rescue()
            self._finish("interrupted")
        except BaseException as error:
            self._rescue()
            self.manifest.error = str(error)
            self._finish("failed")
            raise
        finally:
            self._stop_samplers()
        return RunResult(self.manifest, self.root)

    def _write_problems(self) -> None:
        plan = next(iter(self.run_plan.stages.values()))
        state = self.states[plan.stage.name]
        assert plan.snapshot is not None
        if plan.action != "reuse":
            part = plan.snapshot.write(0, self.run_plan.problems)
            plan.snapshot.finish({part.name: part.rows}, plan.stage.operator.fingerprint(), {})
        state.record.computed = plan.planned - plan.held
        state.record.complete = True

    # -- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            self._submit_ready()
            self._top_up_samplers()
            try:
                self.events.get(timeout=0.2)()
                while True:
                    self.events.get_nowait()()
            except queue.Empty:
                pass
            self._commit()
            self._observe()
            if self._idle():
                return

    def _idle(self) -> bool:
        busy = any(state.in_flight for state in self.states.values())
        waiting = any(state.uncommitted for state in self.states.values() if isinstance(state, StoreState))
        return not busy and not waiting and not self.replicas and not self._submit_ready()

    def _submit_ready(self) -> bool:
        """Submit ready tasks while there is room: twice the slots, so that a free worker never waits for us."""
        submitted = False
        room = 2 * self.runner.slots - sum(
            state.in_flight for state in self.states.values() if not isinstance(state, SampleState)
        )
        for state in self.states.values():
            if room <= 0:
                break
            for task in state.tasks():
                state.submitted()
                future = self.runner.submit(task)
                self._handle(future, lambda done, s=state, t=task: self._task_done(s, t, done))
                submitted = True
                room -= 1
                if room <= 0:
                    break
        return submitted

    def _handle(self, future: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        """Queue ``then(future)`` for the loop once ``future`` is done; what it raises ends the run."""
        future.add_done_callback(lambda done: self.events.put(lambda: then(done)))

    def _task_done(self, state: StageState, task: Task, future: Future[Done]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, GristmillError):
            raise StageFailed(f"stage {state.name}: a worker was lost or could not do its work: {error!r}") from error
        state.finished(task, future.result())
        if not isinstance(state, StoreState):
            for other in self.states.values():
                other.snapshot_part(state.name, task.index)

    def _commit(self, now: bool = False) -> None:
        """Commit what waits, in groups (at once where nobody is working); then tell every stage what became a fact."""
        now = now or not (self.replicas or any(state.in_flight for state in self.states.values()))
        if not now and time.monotonic() - self._last_commit < self.settings.commit_seconds:
            return
        self._last_commit = time.monotonic()
        for state in self.states.values():
            if isinstance(state, StoreState) and state.uncommitted:
                ranges = state.commit()
                for replica in self.replicas:
                    if replica.state is state:
                        for item in ranges:
                            replica.assigned.remove(item)
                for other in self.states.values():
                    other.committed(state.name, ranges)

    def _observe(self, now: bool = False) -> None:
        if self.observer is None or not (now or time.monotonic() - self._last_update >= 0.2):
            return
        self._last_update = time.monotonic()
        live = {state.name: 0 for state in self.states.values() if isinstance(state, SampleState)}
        for replica in self.replicas:
            live[replica.state.name] += replica.drawn
        for state in self.states.values():
            if isinstance(state, SampleState):
                live[state.name] = max(0, live[state.name] - state.record.computed)
        self.observer.update(self.manifest, live)

    # -- sampling ------------------------------------------------------------------------------------------------

    def _start_samplers(self) -> None:
        for state in self.states.values():
            if isinstance(state, SampleState) and state.pending:
                spec = state.plan.stage.engine
                assert spec is not None and state.plan.store is not None
                state.plan.store.create()
                for number in range(spec.replicas):
                    self._start_replica(state, number)

    def _start_replica(self, state: SampleState, number: int) -> None:
        """Start a replica; the loop goes on while its engine loads."""
        spec, operator = state.plan.stage.engine, state.plan.stage.operator
        assert spec is not None and isinstance(operator, Sample)
        job = SamplingJob(
            stage=state.name,
            operator=operator,
            engine=spec,
            root=self.root.url,
            folder=state.plan.folder,
            problems=input_slice(state.upstream("problems"), [], None),
            run_id=self.manifest.run_id,
            flush_rows=self.settings.flush_rows,
            flush_seconds=self.settings.flush_seconds,
        )
        replica = _Replica(number, state, self.runner.sampler(job))
        self.replicas.append(replica)

        def loaded(future: Future[Any]) -> None:
            error = future.exception()
            if error is not None and not isinstance(error, GristmillError):
                raise EngineFailed(f"stage {state.name}: the engine could not be started: {error}") from error
            self._engine_loaded(replica, future.result())

        self._handle(replica.handle.call("start"), loaded)

    def _engine_loaded(self, replica: _Replica, ready: Ready) -> None:
        """Before anything is sampled, the first replica measures the prompts; then work is handed out."""
        state = replica.state
        replica.ready = ready
        state.record.engine = EngineRecord(**vars(ready.info))
        if replica.number == 0 and not state.prompts_checked:
            keys = list(dict.fromkeys(item.problem_key for item in state.pending))
            self._handle(
                replica.handle.call("too_long", keys), lambda done: self._prompts_measured(replica, done.result())
            )
        self._ask(replica)

    def _prompts_measured(self, replica: _Replica, refused: list[tuple[str, int]]) -> None:
        state, ready = replica.state, replica.ready
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

    def _ask(self, replica: _Replica) -> None:
        """Ask a replica for its next report; it answers when it has news."""

        def answered(future: Future[Any]) -> None:
            if replica not in self.replicas:
                return
            error = future.exception()
            if error is not None:
                self._replica_died(replica, error)
            else:
                self._reported(replica, future.result())

        self._handle(replica.handle.call("collect"), answered)

    def _reported(self, replica: _Replica, report: Report) -> None:
        now = time.monotonic()
        elapsed = now - replica.asked if replica.asked else 0.0
        if elapsed > 0:
            replica.rate = 0.5 * replica.rate + 0.5 * (report.drawn - replica.drawn) / elapsed
        replica.asked, replica.drawn = now, report.drawn
        state = replica.state
        state.uncommitted += report.parts
        state.record.busy_seconds += report.busy_seconds
        state.lost += report.failed
        for key, index, _ in report.failed:
            replica.assigned.remove(Range(key, index, 1))
        state.touch()
        if self._top_up(replica) or replica.outstanding or not state.prompts_checked:
            self._ask(replica)
        else:
            self._retire(replica)

    def _top_up_samplers(self) -> None:
        for replica in self.replicas:
            if replica.state.pending:
                self._top_up(replica)

    def _top_up(self, replica: _Replica) -> int:
        """Keep a replica's queue at twice its capacity, or two seconds of work where that is more."""
        if replica.ready is None or not replica.state.prompts_checked:
            return 0
        wanted = max(2 * replica.ready.capacity, int(2 * replica.rate))
        if replica.outstanding > wanted / 2:
            return 0
        ranges = replica.state.take(wanted - replica.outstanding)
        if ranges:
            for item in ranges:
                replica.assigned.add(item)
            count = sum(item.size for item in ranges)
            replica.given += count
            replica.handle.call("assign", ranges)
            return count
        return 0

    def _retire(self, replica: _Replica) -> None:
        self.replicas.remove(replica)
        self._stop(replica)

    def _stop(self, replica: _Replica) -> None:
        try:
            report: Report = replica.handle.call("stop").result(timeout=60)
            replica.state.uncommitted += report.parts
        except Exception:  # it is going away either way; what it drew and didn't write is drawn again
            pass
        replica.handle.kill()

    def _replica_died(self, replica: _Replica, error: BaseException) -> None:
        """Take its unfinished work back and start another, a bounded number of times."""
        self.replicas.remove(replica)
        replica.handle.kill()
        self.restarts += 1
        if self.restarts > self.settings.engine_restarts:
            raise EngineFailed(
                f"stage {replica.state.name}: the engine died {self.restarts} times; last: {error}"
            ) from error
        self._commit(now=True)
        replica.state.give_back(list(replica.assigned))
        self._start_replica(replica.state, replica.number)

    def _stop_samplers(self) -> None:
        for replica in self.replicas:
            self._stop(replica)
        self.replicas.clear()

    # -- the end -------------------------------------------------------------------------------------------------

    def _rescue(self) -> None:
        """After a failure or Ctrl-C: keep what was drawn."""
        self._stop_samplers()
        try:
            self._commit(now=True)
        except Exception as error:
            self.manifest.error = f"what was drawn last could not be committed: {error}"

    def _finish(self, state: Any) -> None:
        self.manifest.state = state
        self.manifest.finished = datetime.now(UTC)
        lost = [
            f"{key}/{index}: {why}"
            for s in self.states.values()
            if isinstance(s, SampleState)
            for key, index, why in s.lost
        ]
        if lost:
            self.manifest.error = f"{len(lost)} sample(s) could not be drawn, for example {lost[0]}"
        self._observe(now=True)
        self.recorder.write()


def _make_states(run_plan: RunPlan) -> dict[str, StageState]:
    states: dict[str, StageState] = {}
    for name, plan in run_plan.stages.items():
        scope = plan.stage.operator.scope
        if scope == "source":
            states[name] = StageState(plan, run_plan)
        elif plan.stage.samples:
            states[name] = SampleState(plan, run_plan)
        elif scope == "sample":
            states[name] = StreamState(plan, run_plan)
        elif scope == "problem":
            states[name] = ChunkState(plan, run_plan)
        else:
            states[name] = DatasetState(plan, run_plan, states)
    return states
