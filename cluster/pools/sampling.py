"""What the replicas of a sampling stage are given: ranges of samples.

A replica's queue holds twice what its engine takes at once, or two seconds of work where that is more, so the engine
never waits for the driver. What a dead replica had been given and not delivered is drawn again, by whoever is next;
problems that kill one engine after the other are found and left out (``cluster.stages.suspects``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import polars as pl

from cluster.pools.lending import Lending
from cluster.pools.replica import Replica
from cluster.pools.serving import FEW, RoleFeed
from cluster.spending.books import Books
from cluster.stages.flights import Handle
from cluster.stages.sample_state import SampleState
from cluster.storage.ranges import KEYED, Ints, Ranges
from cluster.storage.rows import NumberedRows
from cluster.working.engine_worker import EngineJob, EngineWorker
from cluster.working.reports import Prompts, Report
from operators.engine import EngineDied, EngineError
from operators.sample.lengths import told
from schemas.errors import BadInput, ContractViolation, EngineFailed, NodeLost, WorkerLost


class SamplingFeed:
    """Feeds the replicas of one sampling stage.

    Args:
        books: of the run.
        handle: queues a callback for a future's end into the driver's loop.
        commit: commits what was delivered so far, now (before a dead replica's work is given out again).
        leave_out: called with the ranges of a problem that kills engines, and why.
        skip: called with problems whose prompts are too long, and the sentence that says so.
        awake: whether a stage's engines have the GPUs now (``cluster.pools.turns``).
        roles: those that have replicas of their own.
    """

    def __init__(
        self,
        state: SampleState,
        books: Books,
        handle: Handle,
        commit: Callable[[], None],
        leave_out: Callable[[SampleState, Ranges, BaseException], None],
        skip: Callable[[SampleState, Ints, str], None],
        awake: Callable[[SampleState], bool],
        roles: Sequence[RoleFeed] = (),
    ) -> None:
        spec = state.plan.stage.engine
        assert spec is not None
        self.state = state
        self.role = ""
        self.spec = spec
        self._roles = roles
        self.lending = Lending(state, books)
        self._handle = handle
        self._commit = commit
        self._leave_out = leave_out
        self._skip = skip
        self._awake = awake
        self._guilty = 0

    @property
    def waiting(self) -> bool:
        return self.state.draws

    @property
    def needed(self) -> bool:
        return False  # what a dead one had is drawn by whoever is next

    @property
    def holds(self) -> bool:
        return True

    def job(self, run_id: str, flush_rows: int, flush_seconds: float) -> EngineJob:
        state = self.state
        plan, operator = state.plan, state.operator
        problems = state.upstream("problems").snapshot
        assert problems is not None
        prices = {role: loan.prices for role, loan in state.loans.items()}
        return EngineJob(
            state.name, operator, self.spec, state.run.root.url, plan.folder, run_id, flush_rows, flush_seconds,
            NumberedRows.of(problems), bool(state.loans), state.purse is not None and not self._plays, prices,
            plan.stage.engines, state.unsafe,
        )  # fmt: skip

    @property
    def _plays(self) -> bool:
        """Whether draws are episodes, whose calls are paid one by one."""
        return self.state.operator.strategy is not None

    def on_started(self, replica: Replica) -> None:
        """Tell it where the engines are that play other roles."""
        for role in self._roles:
            role.on_asker(replica)

    def _on_gone(self, replica: Replica) -> None:
        self.lending.drop(replica)
        for role in self._roles:
            role.on_asker_gone(replica)

    def on_loaded(self, replica: Replica) -> None:
        """Before anything is sampled, the first replica measures the prompts; then work is handed out."""
        replica.trial = self.state.suspects.next_trial()
        if replica.number == 0 and not self.state.prompts_checked:
            self._measure_prompts(replica)

    def _measure_prompts(self, replica: Replica) -> None:
        """See that all prompts fit; where every token is reserved, also how long each is at most."""
        state = self.state
        sent = state.pending.ranges if state.source is None else state.plan.view.ranges
        numbers = np.unique(sent.numbers)
        measured = replica.handle.call(EngineWorker.measure, numbers, state.purse is not None)
        self._handle(measured, lambda done: self._on_prompts_measured(replica, numbers, done))

    def _on_prompts_measured(self, replica: Replica, numbers: Ints, future: Future[Prompts]) -> None:
        if isinstance(future.exception(), WorkerLost | EngineDied):
            return  # its next report tells, and another replica measures
        if isinstance(error := future.exception(), EngineError):
            raise EngineFailed(f"stage {self.state.name}: its prompts can't be measured: {error}") from error
        prompts, state, ready = future.result(), self.state, replica.ready
        refused = prompts.too_long
        operator = state.operator
        assert ready is not None
        if refused:
            sentence = told([one for _, one in refused], operator, ready.info.context, state.name)
            if operator.too_long == "refuse":
                raise BadInput(sentence)
            self._skip(state, np.array([number for number, _ in refused]), sentence)
        if state.purse is not None:
            most = self.spec.most_completion(operator.max_tokens)
            state.purse.learn_prompts(numbers, prompts.tokens, most)
        state.prompts_checked = True

    def on_report(self, replica: Replica, report: Report) -> bool:
        now, state = time.monotonic(), self.state
        elapsed = now - replica.asked if replica.asked else 0.0
        if elapsed > 0:
            replica.rate = 0.5 * replica.rate + 0.5 * (report.drawn - replica.drawn) / elapsed
        got_on = report.drawn > replica.drawn or (self._plays and report.called)
        replica.asked, replica.drawn = now, report.drawn
        if report.unsent:
            replica.assigned.remove(report.unsent)
            replica.given -= report.unsent.total
            state.on_unsent(report.unsent)
        if report.overrun and state.purse is not None:
            state.purse.on_overrun(report.overrun)
        if self._plays:
            self.lending.on_report(replica, report)
        state.on_delivered(report.parts, report.calls)
        if self._plays and report.failed:
            self._commit()  # whoever plays them again finds what was answered
        for failed in report.failed:
            replica.assigned.remove(Ranges.of(failed.number, failed.index, 1))
            state.on_failed(failed, state.operator.retries)
        for key, index, why in report.unwritten:
            one = pl.DataFrame([(key, index, 1)], schema=KEYED, orient="row")
            ranges = state.store.numbering.ranges(one)
            replica.assigned.remove(ranges)
            state.on_unwritten(ranges)
            self._leave_out(state, ranges, ContractViolation(why))
        return got_on

    def plan(self, replica: Replica) -> list[Callable[[], None]]:
        ranges = self._order(replica)
        sending = [lambda: self._send(replica, ranges)] if ranges else []
        return [*sending, *self.lending.plan(replica)]

    def _order(self, replica: Replica) -> Ranges:
        """Return what fills a replica's queue to twice its capacity, or to two seconds of work where that is more."""
        state = self.state
        if replica.ready is None or not state.prompts_checked or not state.draws or not self._awake(state):
            return Ranges.none()
        wanted = max(2 * replica.ready.draws, int(2 * replica.rate))
        if replica.outstanding > (0 if replica.trial else wanted / 2):
            return Ranges.none()
        ranges = self._trial(replica, wanted) if replica.trial else Ranges.none()
        return ranges or state.take(wanted - replica.outstanding, replica.number)

    def _send(self, replica: Replica, ranges: Ranges) -> None:
        state = self.state
        replica.assigned.add(ranges)
        replica.given += ranges.total
        begun = state.plan.extends.slice(ranges) if state.plan.extends is not None else None
        if state.calls is not None and (played := state.calls.held.present(ranges)):
            begun = state.calls.slice(played)
        facts = None
        if state.warm_ups is not None and (known := state.warm_ups.facts(ranges, state.store.held)):
            facts = state.store.slice(known)
        replica.handle.call(EngineWorker.assign, ranges, begun, facts)

    def _trial(self, replica: Replica, samples: int) -> Ranges:
        """Return what a replica is tried with; nothing once it has lived through all trials."""
        state = self.state
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

    def finished_with(self, replica: Replica) -> bool:
        if self._plays and self.state.closed:
            return True  # what is unfinished is suspended
        state = self.state
        judged = state.proven or not replica.assigned  # what it drew may still be on its way
        return judged and not (replica.outstanding or state.may_want or state.unproven or not state.prompts_checked)

    def on_died(self, replica: Replica, error: BaseException) -> int:
        state = self.state
        self._on_gone(replica)
        state.prove()  # what it delivered is not drawn again
        self._commit()
        unfinished = replica.assigned.ranges
        state.give_back(unfinished, replica.number)
        if isinstance(error, NodeLost):
            return 0
        in_it = set(unfinished.numbers.tolist())
        guilty = state.suspects.on_died(in_it, replica.trial)
        others = ~np.isin(state.pending.ranges.numbers, list(in_it))
        if guilty is not None and (state.record.computed or others.any()):
            self._leave_out_guilty(guilty, error)  # else it is all there is, and may be the engine's own fault
        return 2 * math.ceil(math.log2(max(1, len(in_it))))

    def _leave_out_guilty(self, number: int, error: BaseException) -> None:
        state = self.state
        self._guilty += 1
        if self._guilty > FEW + 0.01 * len(state.plan.view.ranges):
            raise EngineFailed(
                f"stage {state.name}: {self._guilty} problems killed the engine, each alone: it is the engine, not "
                f"they; last: {error}"
            ) from error
        self._leave_out(state, state.leave_out(np.array([number])), error)

    def on_ended(self, replica: Replica, reported: bool) -> None:
        self._on_gone(replica)
        if not reported or (self._plays and replica.outstanding):  # episodes that were suspended are nobody's now
            self.state.prove()
            self._commit()
            self.state.give_back(replica.assigned.ranges, replica.number)
