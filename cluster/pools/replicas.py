"""Replicas: the sampling workers of a run. They are kept fed, heard, replaced when they die, and drained at the end.

A replica's queue holds twice what its engine takes at once, or two seconds of work where that is more, so the engine
never waits for the driver. What a dead replica had been given and not delivered is drawn again, by whoever is next;
problems that kill one engine after the other are found and left out (``cluster.stages.suspects``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.records.run import Say
from cluster.records.timeline import Activity
from cluster.runners.runner import Runner, WorkerHandle
from cluster.stages.flights import Handle
from cluster.stages.sample_state import SampleState
from cluster.storage.ranges import Ints, Ranges, RangeSet
from cluster.storage.rows import NumberedRows
from cluster.working.sampler import Prompts, Ready, Report, Sampler, SamplingJob
from operators.engine import EngineDied
from operators.sample.lengths import told
from schemas.errors import BadInput, EngineFailed, GristmillError, WorkerLost
from schemas.job import RunSettings
from schemas.manifest import EngineRecord, ReplicaRecord

FEW = 10
"""So many problems may be left out because they kill engines (and one in a hundred beyond): then it is the engine."""


@dataclass(eq=False)
class Replica:
    """A sampling worker as the driver sees it."""

    number: int
    state: SampleState
    handle: WorkerHandle[Sampler]
    ready: Ready | None = None
    assigned: RangeSet = field(default_factory=RangeSet)
    given: int = 0
    """Samples assigned since it started."""
    rate: float = 0.0
    """Samples a second, smoothed."""
    drawn: int = 0
    asked: float = 0.0
    collecting: Future[Report] | None = None
    """The report that is on its way."""
    trial: frozenset[int] = frozenset()
    """Suspects that it is tried with, and nothing else."""
    tried: bool = False
    """Whether it was given them."""
    trouble: str = ""
    """Why its engine doesn't answer, where that is known."""
    earlier: ReplicaRecord | None = None
    """What the engines before it, in its place, did."""

    @property
    def outstanding(self) -> int:
        """Samples it has still to draw."""
        return self.given - self.drawn


class Replicas:
    """All sampling workers of a run; the driver's loop calls it.

    Args:
        handle: queues a callback for a future's end into the driver's loop.
        commit: commits what was delivered so far, now (before a dead replica's work is given out again).
        leave_out: called with the ranges of a problem that kills engines, and why.
        skip: called with problems whose prompts are too long, and the sentence that says so.
        awake: whether a stage's engines have the GPUs now (``cluster.pools.turns``).
    """

    def __init__(
        self,
        runner: Runner,
        settings: RunSettings,
        run_id: str,
        handle: Handle,
        commit: Callable[[], None],
        leave_out: Callable[[SampleState, Ranges, BaseException], None],
        skip: Callable[[SampleState, Ints, str], None],
        awake: Callable[[SampleState], bool],
        say: Say,
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.run_id = run_id
        self._handle = handle
        self._commit = commit
        self._leave_out = leave_out
        self._skip = skip
        self._awake = awake
        self._say = say
        self._all: list[Replica] = []
        self._deaths = 0
        """How many replicas died in a row without a sample in between."""
        self._allowed = 0
        """How many deaths in a row there may be: restarts, and what it takes to find two problems that kill."""
        self._guilty = 0
        self._records: dict[tuple[str, int], ReplicaRecord] = {}

    @property
    def any(self) -> bool:
        return bool(self._all)

    def start_where_needed(self, state: SampleState) -> None:
        """Start a stage's replicas once it has something to draw."""
        if not state.draws or not self._awake(state) or any(replica.state is state for replica in self._all):
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

    def on_committed(self, state: SampleState, ranges: Ranges) -> None:
        """Hear what became a fact: it is no longer at stake."""
        for replica in self._all:
            if replica.state is state:
                replica.assigned.remove(ranges)

    def _start(self, state: SampleState, number: int) -> None:
        """Start a replica; the loop goes on while its engine loads."""
        plan, operator = state.plan, state.operator
        problems = state.upstream("problems").snapshot
        assert plan.stage.engine is not None and problems is not None
        if state.purse is not None:  # each try is paid for, so each goes through the account
            operator = operator.model_copy(update={"retries": 0})
        job = SamplingJob(
            stage=state.name,
            operator=operator,
            engine=plan.stage.engine,
            root=state.run.root.url,
            folder=plan.folder,
            problems=NumberedRows.of(problems),
            run_id=self.run_id,
            flush_rows=self.settings.flush_rows,
            flush_seconds=self.settings.flush_seconds,
        )
        replica = Replica(number, state, self.runner.engine_worker(job, number))
        replica.trial = state.suspects.next_trial()
        replica.earlier = self._records.get((state.name, number))
        self._all.append(replica)

        def loaded(future: Future[Any]) -> None:
            error = future.exception()
            if isinstance(error, WorkerLost | EngineDied):
                self._on_died(replica, error)
            elif error is not None and not isinstance(error, GristmillError):
                raise EngineFailed(f"stage {state.name}: the engine could not be started: {error}") from error
            else:
                self._on_loaded(replica, future.result())

        self._handle(replica.handle.call(Sampler.start), loaded)

    def _on_loaded(self, replica: Replica, ready: Ready) -> None:
        """Before anything is sampled, the first replica measures the prompts; then work is handed out."""
        state = replica.state
        replica.ready = ready
        state.record.engine = EngineRecord(**vars(ready.info))
        if replica.number == 0 and not state.prompts_checked:
            self._measure_prompts(replica)
        self._ask(replica)

    def _measure_prompts(self, replica: Replica) -> None:
        """See that all prompts fit; where every token is reserved, also how long each is at most."""
        state = replica.state
        sent = state.pending.ranges if state.source is None else state.plan.view.ranges
        numbers = np.unique(sent.numbers)
        measured = replica.handle.call(Sampler.measure, numbers, state.purse is not None)
        self._handle(measured, lambda done: self._on_prompts_measured(replica, numbers, done))

    def _on_prompts_measured(self, replica: Replica, numbers: Ints, future: Future[Prompts]) -> None:
        if isinstance(future.exception(), WorkerLost | EngineDied):
            return  # its next report tells, and another replica measures
        prompts, state, ready = future.result(), replica.state, replica.ready
        refused = prompts.too_long
        operator = state.operator
        assert ready is not None
        if refused:
            sentence = told([one for _, one in refused], operator, ready.info.context, state.name)
            if operator.too_long == "refuse":
                raise BadInput(sentence)
            self._skip(state, np.array([number for number, _ in refused]), sentence)
        if state.purse is not None:
            state.purse.learn_prompts(numbers, prompts.tokens, operator.max_tokens)
        state.prompts_checked = True

    def _ask(self, replica: Replica) -> None:
        """Ask a replica for its next report; it answers when it has news."""

        def answered(future: Future[Any]) -> None:
            if replica not in self._all:
                return  # it was ended meanwhile, and this report was taken there
            replica.collecting = None
            error = future.exception()
            if error is None:
                self._on_report(replica, future.result())
            elif isinstance(error, WorkerLost) or not isinstance(error, GristmillError):
                self._on_died(replica, error)
            else:
                raise error

        replica.collecting = replica.handle.call(Sampler.collect)
        self._handle(replica.collecting, answered)

    def _on_report(self, replica: Replica, report: Report) -> None:
        now = time.monotonic()
        elapsed = now - replica.asked if replica.asked else 0.0
        if elapsed > 0:
            replica.rate = 0.5 * replica.rate + 0.5 * (report.drawn - replica.drawn) / elapsed
        if report.drawn > replica.drawn:
            self._deaths = self._allowed = 0
        replica.asked, replica.drawn = now, report.drawn
        self._take(replica, report)
        state = replica.state
        state.touch()
        if state.log is None:
            self._send(replica, self._order(replica))
        # what is logged goes out with the next ``top_up``, all replicas' in one write
        if replica.outstanding or state.may_want or not state.prompts_checked:
            self._ask(replica)
        else:
            self._retire(replica)

    def _take(self, replica: Replica, report: Report) -> None:
        state = replica.state
        state.on_delivered(report.parts)
        self._record(replica, report.activity)
        replica.trouble = report.activity.trouble
        operator = state.operator
        for number, index, message in report.failed:
            replica.assigned.remove(Ranges.of(number, index, 1))
            state.on_failed(number, index, message, operator.retries)

    def _record(self, replica: Replica, now: Activity) -> None:
        """Keep a replica's timeline, the engines that died in its place included."""
        before = replica.earlier or ReplicaRecord(number=replica.number)
        self._records[replica.state.name, replica.number] = now.after(before)
        record = replica.state.record
        record.replicas = [found for (stage, _), found in sorted(self._records.items()) if stage == replica.state.name]
        record.busy_seconds = sum(found.busy_seconds for found in record.replicas)

    def top_up(self) -> None:
        """Feed all that run low; what is logged is written once for all before anything goes out."""
        orders = [(replica, self._order(replica)) for replica in self._all]
        for log in {id(replica.state.log): replica.state.log for replica, ranges in orders if ranges}.values():
            if log is not None:
                log.flush()
        for replica, ranges in orders:
            self._send(replica, ranges)

    def _order(self, replica: Replica) -> Ranges:
        """Return what fills a replica's queue to twice its capacity, or to two seconds of work where that is more."""
        state = replica.state
        if replica.ready is None or not state.prompts_checked or not state.draws or not self._awake(state):
            return Ranges.none()
        wanted = max(2 * replica.ready.capacity, int(2 * replica.rate))
        if replica.outstanding > (0 if replica.trial else wanted / 2):
            return Ranges.none()
        ranges = self._trial(replica, wanted) if replica.trial else Ranges.none()
        return ranges or state.take(wanted - replica.outstanding, replica.number)

    def _send(self, replica: Replica, ranges: Ranges) -> None:
        if not ranges:
            return
        state = replica.state
        replica.assigned.add(ranges)
        replica.given += ranges.total
        begun = state.plan.extends.slice(ranges) if state.plan.extends is not None else None
        replica.handle.call(Sampler.assign, ranges, begun)

    def _trial(self, replica: Replica, samples: int) -> Ranges:
        """Return what a replica is tried with; nothing once it has lived through all trials."""
        state = replica.state
        while replica.trial:
            if not replica.tried:
                replica.tried = True
                share = max(1, samples // len(replica.trial))
                each = [state.take(share, replica.number, frozenset({number})) for number in sorted(replica.trial)]
                if any(each):
                    return Ranges.joined(each)
            state.suspects.on_survived(replica.trial)
            replica.trial, replica.tried = state.suspects.next_trial(), False
        return Ranges.none()

    def _retire(self, replica: Replica) -> None:
        self._all.remove(replica)
        if not self._end(
            replica, replica.handle.call_last(Sampler.stop), 60
        ):  # lost at the last moment, with what it had drawn
            self._commit()
            replica.state.give_back(replica.assigned.ranges, replica.number)

    def _end(self, replica: Replica, future: Future[Report], seconds: float) -> bool:
        """Take the last reports; False if they never came."""
        ended = True
        try:
            if replica.collecting is not None:
                self._take(replica, replica.collecting.result(timeout=seconds))
            self._take(replica, future.result(timeout=seconds))
        except Exception as error:  # it is going away either way; what it drew and didn't write is drawn again
            self._say(f"a replica ended without its last report: {error}", replica.state.name)
            ended = False
        replica.handle.kill()
        return ended

    def _on_died(self, replica: Replica, error: BaseException) -> None:
        """Take its unfinished work back and start another, a bounded number of times in a row."""
        self._all.remove(replica)
        replica.handle.kill()
        state = replica.state
        self._commit()
        unfinished = replica.assigned.ranges
        state.give_back(unfinished, replica.number)
        self._deaths += 1
        in_it = set(unfinished.numbers.tolist())
        search = 2 * math.ceil(math.log2(max(1, len(in_it))))
        self._allowed = max(self._allowed, self.settings.engine_restarts + search)
        if self._deaths > self._allowed:
            raise EngineFailed(
                f"stage {state.name}: the engine died {self._deaths} times without drawing anything in between; last: "
                f"{error}"
            ) from error
        record = self._records.setdefault((state.name, replica.number), ReplicaRecord(number=replica.number))
        record.deaths += 1
        guilty = state.suspects.on_died(in_it, replica.trial)
        others = ~np.isin(state.pending.ranges.numbers, list(in_it))
        if guilty is not None and (state.record.computed or others.any()):
            self._leave_out_guilty(state, guilty, error)  # else it is all there is, and may be the engine's own fault
        self._say(f"replica {replica.number} died ({error}); starting another", state.name)
        if self._awake(state):
            self._start(state, replica.number)

    def _leave_out_guilty(self, state: SampleState, number: int, error: BaseException) -> None:
        self._guilty += 1
        if self._guilty > FEW + 0.01 * len(state.plan.view.ranges):
            raise EngineFailed(
                f"stage {state.name}: {self._guilty} problems killed the engine, each alone: it is the engine, not "
                f"they; last: {error}"
            ) from error
        self._leave_out(state, state.leave_out(np.array([number])), error)

    def progress(self) -> object:
        """Return what changes whenever an engine gets on."""
        return tuple((id(replica), replica.drawn, replica.ready is None) for replica in self._all), self._deaths

    def waits_for(self) -> list[str]:
        """Return what keeps replicas from drawing."""
        found: list[str] = []
        for replica in self._all:
            who = f"stage {replica.state.name}, replica {replica.number}"
            if replica.ready is None:
                found.append(f"{who}: {replica.handle.waits_for() or 'its engine is being loaded'}")
            elif replica.trouble:
                found.append(f"{who}: {replica.trouble}")
            elif replica.outstanding:
                found.append(f"{who}: its engine has {replica.outstanding:,} requests and answers none")
        return found

    def outstanding(self, state: SampleState) -> int:
        """Return how many samples a stage's replicas have still to draw."""
        return sum(replica.outstanding for replica in self._all if replica.state is state)

    def sleep(self, state: SampleState) -> list[Future[None]]:
        """Put all engines of a stage to sleep (nothing is under way)."""
        return [replica.handle.call(Sampler.sleep) for replica in self._all if replica.state is state]

    def wake(self, state: SampleState) -> list[Future[None]]:
        """Wake all engines of a stage."""
        return [replica.handle.call(Sampler.wake) for replica in self._all if replica.state is state]

    def drain(self, seconds: float) -> None:
        """Let all finish what is in flight, for up to ``seconds``, and take what they drew."""
        replicas, self._all = self._all, []
        futures = [(replica, replica.handle.call_last(Sampler.drain, seconds)) for replica in replicas]
        for replica, future in futures:
            self._end(replica, future, seconds + 60)

    def stop(self) -> None:
        """End all now; what is in flight is dropped, what was drawn is kept."""
        self.drain(0.0)
