"""The state of a sampling stage: a source that hands out ranges, to whoever has room, as far as the money goes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cluster.planning.plan import RunPlan, StagePlan, missing_ranges
from cluster.records.bill import Amount, Bill
from cluster.spending.admission import Admission
from cluster.spending.allocations import AllocationLog, Decisions
from cluster.spending.books import Books
from cluster.spending.purse import Purse, bill_of
from cluster.spending.source import PolicySource
from cluster.stages.merging import Merging
from cluster.stages.states import TASK_SAMPLES, TOKENS, StoreState, next_number
from cluster.stages.suspects import Suspects
from cluster.stages.warm_ups import WarmUps
from cluster.storage.parts import Part
from cluster.storage.queue import RangeQueue
from cluster.storage.ranges import Ints, Ranges
from cluster.working.carry import CarryOver
from cluster.working.reports import Failed
from cluster.working.work import Work
from operators.sample.sampling import Sampling
from operators.strategies.words import POLICY
from schemas.errors import BadInput

NOBODY = -1
LOOK_AHEAD = 4096
"""How many pending ranges are looked at to find a problem that no other replica has begun."""


class SampleState(StoreState):
    """A sampling stage: a source that hands out ranges of draws, holes first.

    A draw is a sample, or an episode of a strategy, which gives ``rows`` samples. Stores and views know samples; what
    is pending, handed out, failed or afforded here is counted in draws.

    Where truncated samples of another store are continued, the finished ones are carried over before anything is drawn:
    what is then still missing was cut, or was never drawn.

    Under a policy (``source``) ranges come from it once what was sent before and never came is drawn; under a budget
    (``purse``) only what it affords is handed out. In both cases the log has it before anybody gets it.
    """

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        missing = missing_ranges(plan)
        self.warm_ups: WarmUps | None = None
        self.pending = self._queue(missing.over(self.rows))
        self.carrying = 0
        """Pieces of work that carry finished samples over and aren't committed yet."""
        self._carried: deque[Ranges] = deque()
        if plan.extends is not None:
            known = plan.extends.held.present(missing).split(TASK_SAMPLES)
            self._carried = deque(known.groups(TASK_SAMPLES))
            self.carrying = len(self._carried)
        self.prompts_checked = False
        self.suspects = Suspects()
        self._owner = np.full(len(run.problems), NOBODY, np.int32)
        """The replica that began each problem."""
        self.lost: list[tuple[int, int, str]] = []
        """(problem, sample index, message) of what could not be drawn."""
        self.source: PolicySource | None = None
        self.purse: Purse | Admission | None = None
        self.log: AllocationLog | None = None
        self._broke_at: int | None = None
        """How often money had come back when something was wanted that the account didn't afford."""
        self.books: Books | None = None
        self._failed: dict[tuple[int, int], int] = {}
        """How often a request failed, where each try is paid for."""
        self.calls = plan.calls
        """Where the calls of episodes are kept."""
        self._uncommitted_calls: list[Part] = []
        self.unproven: list[Part] = []
        """Parts that hold nothing but refusals, while nothing was ever served."""
        self.proven = plan.held > 0 or plan.extends is not None
        if plan.calls is not None:
            self._merging.append(Merging(plan.calls, self.name))

    @property
    def operator(self) -> Sampling:
        operator = self.plan.stage.operator
        assert isinstance(operator, Sampling)
        return operator

    def follow(self, source: PolicySource) -> None:
        """Let a policy say what is drawn."""
        self.source = source
        self.pending = self._queue(source.holes)

    def _queue(self, ranges: Ranges) -> RangeQueue:
        """Return what is pending of what is to be drawn; the rest waits for warm-ups."""
        cut = self.operator.cut
        self.warm_ups = None if cut is None else WarmUps(cut.warm_up, self.store.held.ranges)
        return RangeQueue(self._ready(ranges)[0])

    def _ready(self, ranges: Ranges) -> tuple[Ranges, Ints]:
        """Keep back what waits for its warm-up; return the rest, and which of ``ranges`` each part of it is of."""
        return (ranges, np.arange(len(ranges))) if self.warm_ups is None else self.warm_ups.keep_back(ranges)

    def _on_known(self, ranges: Ranges) -> None:
        """Hand out what waited for samples that are facts now, or never will be."""
        if self.warm_ups is not None:
            self.warm_ups.on_known(ranges)
            self.pending.put_first(self.warm_ups.free())

    @property
    def wants(self) -> bool:
        """Whether there is something to hand out, as far as is known."""
        return bool(self.pending) or (self.source is not None and self.source.wants)

    @property
    def broke(self) -> bool:
        """Whether something was wanted that the account doesn't afford, and no money has come back since."""
        return self.purse is not None and self._broke_at == self.purse.account.freed

    @property
    def money_may_come(self) -> bool:
        """Whether money comes back once samples that wait for their verdicts are judged."""
        return self.purse is not None and any(keeping.loan.waits for keeping in self.purse.keeping)

    @property
    def draws(self) -> bool:
        """Whether there is something to draw, and it may begin."""
        return self.wants and not (self.carrying or self.broke or self.closed or self.paused)

    @property
    def may_want(self) -> bool:
        """Whether there may be more to draw, now or once verdicts or settlements have come."""
        if self.closed or not (self.wants or self.warm_ups or (self.source is not None and self.source.waits)):
            return False
        # money may come back, or the gate may open
        return not self.broke or (self.purse is not None and self.purse.may_afford)

    @property
    def waiting(self) -> bool:
        return self.draws

    def commit(self) -> Ranges:
        calls, self._uncommitted_calls = self._uncommitted_calls, []
        if calls:  # first: a sample that is a fact came of calls that are facts
            assert self.calls is not None
            self.calls.commit(calls)
        carried = len(self.uncommitted) if self.carrying else 0
        news = super().commit()
        self.carrying -= carried
        self._on_known(news)
        return news

    @property
    def tallied(self) -> tuple[str, ...]:
        """Of episodes the rows tell what one path took; what all calls took stands in their bills."""
        return super().tallied if self.operator.strategy is None else tuple(set(super().tallied) - {*TOKENS})

    def flush_log(self) -> None:
        if self.log is not None:
            self.log.flush()

    @property
    def has_uncommitted(self) -> bool:
        return bool(self.uncommitted or self._uncommitted_calls)

    def on_delivered(self, parts: list[Part], calls: list[Part]) -> None:
        """Take parts that a replica wrote, and what they really took off the account.

        Args:
            calls: those that the samples came of, and that others will come of.
        """
        self._uncommitted_calls += calls
        if any(part.tallies.get("failed", 0) < part.rows for part in parts):
            self.prove()
        (self.uncommitted if self.proven else self.unproven).extend(parts)
        for part in parts:
            if self.purse is not None:
                self.purse.settle(part, self.store.numbering.ranges(part.ranges).over(self.rows))
            elif self.books is not None:
                sent = Amount() if self.log is None else Amount(part.rows)
                bill = bill_of(part) if self.operator.strategy is None else Bill()
                self.books.add("bill", self.name, POLICY, sent, bill, part.rows)

    def prove(self) -> None:
        """Have refusals committed: they are about their samples, as others were served."""
        self.proven = True
        self.uncommitted += self.unproven
        self.unproven = []

    def judge_refusals(self, assigned: int, refusals: list[str]) -> None:
        """Decide what becomes of refusals once they are all that came of everything that was handed out.

        Args:
            assigned: draws that replicas have and that aren't committed.
            refusals: what the engine of each such replica refuses everything with (``Engine.refusal``).

        Raises:
            BadInput: whatever was asked was refused in the same words, so it is the settings' fault; nothing is
                committed.
        """
        if self.draws or self.paused or sum(part.rows for part in self.unproven) < assigned * self.rows:
            return
        if refusals and all(refusals):
            raise BadInput(refusals[0])
        self.prove()

    def tasks(self) -> Iterator[Work]:
        source = self.plan.extends
        while self._carried:
            assert source is not None
            ranges = self._carried.popleft()
            reads = source.slice(ranges)
            yield CarryOver(next_number(), self.name, self.run.root.url, reads, self.plan.folder, ranges.total)

    def take(self, draws: int, replica: int, only: frozenset[int] = frozenset()) -> Ranges:
        """Return up to ``draws`` draws' worth of ranges for a replica to draw next.

        A problem stays with the replica that began it (its prompt is in that engine's cache), until there is nothing
        else to do; what a policy hands out goes to whoever asks.

        Args:
            only: nothing but these problems (a trial); otherwise whatever isn't under suspicion.
        """
        pending = self._pending(draws, replica, only)
        if self.log is None:
            return pending
        reason = "hole" if self.source is not None else "in order"
        decisions = [Decisions(pending, np.zeros(len(pending)), reason)]
        draws -= pending.total
        if draws > 0 and self.source is not None and not only and not self.broke:
            found = self.source.take(draws)
            ranges, rows = self._ready(found.ranges)
            wait = np.isin(ranges.numbers, list(self.suspects.waiting))
            self.pending.append(ranges[wait])  # for its trial
            decisions.append(Decisions(ranges[~wait], found.values[rows][~wait], found.reason))
        log = self.log
        return Ranges.joined([self._afforded(some, log) for some in decisions])

    def _afforded(self, decisions: Decisions, log: AllocationLog) -> Ranges:
        """Reserve what the account affords and note it in the log, which is written before it is sent; put the rest
        back."""
        ranges = decisions.ranges
        sizes = ranges.sizes if self.purse is None else self.purse.affords(ranges)
        short = sizes < ranges.sizes
        if short.any():
            assert self.purse is not None
            self._broke_at = self.purse.account.freed
            rest = Ranges(ranges.starts[short] + sizes[short], ranges.sizes[short] - sizes[short])
            if self.source is None or decisions.reason == "hole":
                self.pending.append(rest)
            else:
                self.source.put_back(rest)
        kept = sizes > 0
        sent = Ranges(ranges.starts[kept], sizes[kept])
        if sent:
            observed = -1 if self.source is None else self.source.observed - 1
            price = None if self.source is None else self.source.policy.shadow_price
            samples = sent.times(self.rows)
            noted = Decisions(samples, decisions.values[kept], decisions.reason)
            log.add(self.name, noted, self.store.numbering.keyed(samples), self._worst(sent), observed, _finite(price))
        return sent

    def _worst(self, ranges: Ranges) -> tuple[Ints, Ints]:
        nothing = np.zeros(len(ranges), np.int64)
        return (nothing, nothing) if self.purse is None else self.purse.worst(ranges.numbers)

    def on_failed(self, failed: Failed, retries: int) -> None:
        """Hear that a draw failed in passing, after the worker's own tries.

        Where tries are paid for, each one comes back here, is charged if it may have been served, and drawn again, as
        often as it would have been.
        """
        name, draw = (failed.number, failed.index), Ranges.of(failed.number, failed.index, 1)
        again = failed.again
        if self.purse is not None:
            (self.purse.charge if failed.served else self.purse.give_back)(draw)
            if failed.served and not failed.again:
                tries = self._failed[name] = self._failed.get(name, 0) + 1
                again = tries <= retries
        if again:
            self.pending.put_first(draw)
            return
        self.lost.append((failed.number, failed.index * self.rows, failed.message))
        self._on_known(draw)
        if self.source is not None:
            self.source.give_up(draw)

    def on_unsent(self, ranges: Ranges) -> None:
        """Take back what a replica was given and didn't begin."""
        if self.purse is not None:
            self.purse.give_back(ranges)
        self.pending.put_first(ranges)

    def on_unwritten(self, ranges: Ranges) -> None:
        """Hear of rows that were drawn and that no table takes."""
        if self.purse is not None:
            self.purse.charge(ranges)
        if self.source is not None:
            self.source.give_up(ranges)
        self._on_known(ranges)

    def draw_again(self, ranges: Ranges) -> None:
        """Draw what was refused or given up once more; what waits for a warm-up waits for that, too."""
        if self.warm_ups is not None:
            self.warm_ups.forget(ranges)
        self.pending.append(self._ready(ranges)[0])

    def on_taken_out(self, ranges: Ranges) -> None:
        super().on_taken_out(ranges)
        self.record.failed = max(0, self.record.failed - ranges.total)

    def _pending(self, draws: int, replica: int, only: frozenset[int]) -> Ranges:
        """Take what is pending out, up to so many draws."""
        return self._pick(draws, replica, only, steal=False) or self._pick(draws, replica, only, steal=True)

    def _pick(self, draws: int, replica: int, only: frozenset[int], steal: bool) -> Ranges:
        """Take out what is pending and a replica may have; everything else keeps its place."""
        taken: list[Ranges] = []
        passed: list[Ranges] = []
        left = LOOK_AHEAD
        while draws > 0 and left > 0 and (window := self.pending.take_rows(LOOK_AHEAD)):
            fits = self._fitting(window.numbers, replica, only, steal)
            missing, row = self.store.held.gaps(window[fits].times(self.rows))
            missing = missing.over(self.rows)
            head, tail = missing.cut(draws)
            end = len(window)  # what stands from here on in the window stays as it is
            if tail:
                cut = int(row[len(missing) - len(tail)])
                end = int(np.flatnonzero(fits)[cut])
                rest = tail[row[len(missing) - len(tail) :] == cut]
                self.pending.put_first(rest, window[end + 1 :])
            self._owner[head.numbers] = np.where(
                self._owner[head.numbers] == NOBODY, replica, self._owner[head.numbers]
            )
            passed.append(window[:end][~fits[:end]])
            left -= len(passed[-1])
            taken.append(head)
            draws -= head.total
        self.pending.put_first(*passed)
        return Ranges.joined(taken)

    def _fitting(self, numbers: Ints, replica: int, only: frozenset[int], steal: bool) -> NDArray[np.bool_]:
        """Return which of some problems a replica may be given."""
        if only:
            return np.isin(numbers, list(only))
        fits = ~np.isin(numbers, list(self.suspects.waiting))
        if not steal:
            owners = self._owner[numbers]
            fits &= (owners == replica) | (owners == NOBODY)
        return fits

    def give_back(self, ranges: Ranges, replica: int) -> None:
        """Take ranges back that a dead replica never delivered; they are drawn first, by whoever is next."""
        if self.purse is not None:
            self.purse.charge(ranges)  # nobody knows how far the engine got
        self.pending.put_first(ranges)
        self._owner[self._owner == replica] = NOBODY

    def leave_out(self, numbers: Ints) -> Ranges:
        """Take what is pending of some problems out of the run; return the samples that will be lacking."""
        pending = self.pending.ranges
        mine = np.isin(pending.numbers, numbers)
        self.pending = RangeQueue(pending[~mine])
        gone = pending[mine]
        if self.warm_ups is not None:
            gone = Ranges.joined([gone, self.warm_ups.leave_out(numbers)])
        if self.source is not None:
            self.source.give_up(gone)
        return gone.times(self.rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
