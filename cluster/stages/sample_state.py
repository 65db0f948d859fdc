"""The state of a sampling stage: a source that hands out ranges, to whoever has room, as far as the money goes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing

from cluster.planning.plan import RunPlan, StagePlan, missing_ranges
from cluster.spending.account import Amount, Purse
from cluster.spending.allocations import AllocationLog, Decision
from cluster.spending.source import PolicySource
from cluster.stages.states import TASK_SAMPLES, StoreState, next_number
from cluster.stages.suspects import Suspects
from cluster.storage.parts import Part
from cluster.storage.ranges import Range
from cluster.storage.slices import Slice
from cluster.storage.store import Store
from cluster.working.carry import CarryOver
from cluster.working.work import Done, Work
from operators.sample.sampling import Sampling

LOOK_AHEAD = 4096
"""How many pending ranges are looked at to find a problem that no other replica has begun."""


class SampleState(StoreState):
    """A sampling stage: a source that hands out ranges, holes first.

    Where truncated samples of another store are continued, the finished ones are carried over before anything is drawn:
    what is then still missing was cut, or was never drawn.

    Under a policy (``source``) ranges come from it once what was sent before and never came is drawn; under a budget
    (``purse``) only what it affords is handed out. In both cases the log has it before anybody gets it.
    """

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        self.pending = deque(missing_ranges(plan))
        self.carrying = 0
        """Pieces of work that carry finished samples over and aren't committed yet."""
        self._carried: deque[Range] = deque()
        if plan.extends is not None:
            known = [piece for gap in self.pending for piece in plan.extends.held.present(gap)]
            self._carried = deque(_cut(known, TASK_SAMPLES))
            self.carrying = len(self._carried)
        self.prompts_checked = False
        self.suspects = Suspects()
        self._owner: dict[str, int] = {}
        """Problem -> the replica that began it."""
        self.lost: list[tuple[str, int, str]] = []
        self.source: PolicySource | None = None
        self.purse: Purse | None = None
        self.log: AllocationLog | None = None
        self.broke = False
        """Whether something was wanted that the account doesn't afford; cleared when money comes back."""
        self.closed = False
        """Whether nothing may be sent any more: a deadline has passed, or the first samples failed the gate."""
        self._failed: dict[tuple[str, int], int] = {}
        """How often a request failed, where each try is paid for."""

    @property
    def operator(self) -> Sampling:
        operator = self.plan.stage.operator
        assert isinstance(operator, Sampling)
        return operator

    def follow(self, source: PolicySource) -> None:
        """Let a policy say what is drawn."""
        self.source = source
        self.pending = deque(source.holes)

    @property
    def wants(self) -> bool:
        """Whether there is something to hand out, as far as is known."""
        return bool(self.pending) or (self.source is not None and self.source.wants)

    @property
    def draws(self) -> bool:
        """Whether there is something to draw, and it may begin."""
        return self.wants and not (self.carrying or self.broke or self.closed)

    @property
    def may_want(self) -> bool:
        """Whether there may be more to draw, now or once verdicts or settlements have come."""
        if self.closed or not (self.wants or (self.source is not None and self.source.waits)):
            return False
        # money may come back, or the gate may open
        return not self.broke or (self.purse is not None and self.purse.may_afford)

    @property
    def waiting(self) -> bool:
        return self.draws

    def commit(self) -> list[Range]:
        carried = len(self.uncommitted) if self.carrying else 0
        news = super().commit()
        self.carrying -= carried
        return news

    def on_delivered(self, parts: list[Part]) -> None:
        """Take parts that a replica wrote, and what they really took off the account."""
        self.uncommitted += parts
        if self.purse is not None and parts:
            for part in parts:
                self.purse.settle(part)
            self.broke = False

    def tasks(self) -> Iterator[Work]:
        source = self.plan.extends
        while self._carried:
            assert source is not None
            item = self._carried.popleft()
            reads = begun_slice(source, [item])
            yield CarryOver(next_number(), self.name, self.run.root.url, reads, self.plan.folder, item.size)

    def on_finished(self, work: Work, done: Done) -> None:
        super().on_finished(work, done)
        self.uncommitted.append(done.part)

    def take(self, samples: int, replica: int, only: frozenset[str] = frozenset()) -> list[Range]:
        """Return up to ``samples`` samples' worth of ranges for a replica to draw next.

        A problem stays with the replica that began it (its prompt is in that engine's cache), until there is nothing
        else to do; what a policy hands out goes to whoever asks.

        Args:
            only: nothing but these problems (a trial); otherwise whatever isn't under suspicion.
        """
        if self.log is None:
            return self._pending(samples, replica, only)
        reason = "hole" if self.source is not None else "in order"
        decisions = [Decision(item, 0.0, reason) for item in self._pending(samples, replica, only)]
        samples -= sum(decision.range.size for decision in decisions)
        if samples > 0 and self.source is not None and not only and not self.broke:
            for decision in self.source.take(samples):
                if decision.range.problem_key in self.suspects.waiting:
                    self.pending.append(decision.range)  # for its trial
                else:
                    decisions.append(decision)
        return [decision.range for decision in self._afforded(decisions, self.log)]

    def _afforded(self, decisions: list[Decision], log: AllocationLog) -> list[Decision]:
        """Reserve what the account affords and note it in the log, which is written before it is sent; put the rest
        back."""
        kept: list[Decision] = []
        for decision in decisions:
            item = decision.range
            size = item.size if self.purse is None else self.purse.affords(item.problem_key, item.size)
            if size < item.size:
                self.broke = True
                rest = Range(item.problem_key, item.first + size, item.size - size)
                if self.source is None or decision.reason == "hole":
                    self.pending.append(rest)
                else:
                    self.source.put_back(rest)
            if size:
                fits = Range(item.problem_key, item.first, size)
                if self.purse is not None:
                    self.purse.reserve(fits)
                kept.append(Decision(fits, decision.value, decision.reason))
        if kept:
            observed = -1 if self.source is None else self.source.observed - 1
            price = None if self.source is None else self.source.policy.shadow_price
            log.add(self.name, kept, [self._worst(decision.range) for decision in kept], observed, _finite(price))
        return kept

    def _worst(self, item: Range) -> Amount:
        return Amount(1) if self.purse is None else self.purse.worst(item.problem_key)

    def on_failed(self, key: str, index: int, message: str, retries: int) -> None:
        """Hear that a request failed in passing, after the worker's own tries.

        Where tries are paid for, each one comes back here, is charged and drawn again, as often as it would have been.
        """
        item = Range(key, index, 1)
        if self.purse is not None:
            self.purse.charge([item])
            tries = self._failed[key, index] = self._failed.get((key, index), 0) + 1
            if tries <= retries:
                self.pending.appendleft(item)
                return
        self.lost.append((key, index, message))
        if self.source is not None:
            self.source.give_up(item)

    def _pending(self, samples: int, replica: int, only: frozenset[str]) -> list[Range]:
        """Take what is pending out, up to so many samples."""
        taken: list[Range] = []
        for steal in (False, True):
            with closing(self._candidates(replica, only, steal)) as candidates:
                for item in candidates:
                    self._owner.setdefault(item.problem_key, replica)
                    pieces = self._cut_off(item, samples)
                    taken += pieces
                    samples -= sum(piece.size for piece in pieces)
                    if not samples:
                        break
            if taken:
                break
        return taken

    def _candidates(self, replica: int, only: frozenset[str], steal: bool) -> Generator[Range]:
        """Take the pending ranges out one after another that a replica may have; the others keep their places."""
        passed: list[Range] = []
        avoided = self.suspects.waiting
        try:
            while self.pending and len(passed) < LOOK_AHEAD:
                item = self.pending.popleft()
                key = item.problem_key
                fits = key in only if only else key not in avoided
                if fits and (steal or only or self._owner.get(key, replica) == replica):
                    yield item
                else:
                    passed.append(item)
        finally:
            self.pending.extendleft(reversed(passed))

    def _cut_off(self, item: Range, samples: int) -> list[Range]:
        """Return up to ``samples`` of a range's missing samples; the rest is pending again."""
        taken: list[Range] = []
        rest: list[Range] = []
        for gap in self.store.held.missing(item):
            size = min(gap.size, samples)
            samples -= size
            if size:
                taken.append(Range(gap.problem_key, gap.first, size))
            if size < gap.size:
                rest.append(Range(gap.problem_key, gap.first + size, gap.size - size))
        self.pending.extendleft(reversed(rest))
        return taken

    def give_back(self, ranges: list[Range], replica: int) -> None:
        """Take ranges back that a dead replica never delivered; they are drawn first, by whoever is next."""
        if self.purse is not None:
            self.purse.charge(ranges)  # nobody knows how far the engine got
        self.pending.extendleft(reversed(ranges))
        self._owner = {key: owner for key, owner in self._owner.items() if owner != replica}

    def leave_out(self, key: str) -> list[Range]:
        """Take what is pending of a problem out of the run; return it."""
        out = [item for item in self.pending if item.problem_key == key]
        self.pending = deque(item for item in self.pending if item.problem_key != key)
        if self.source is not None:
            for item in out:
                self.source.give_up(item)
        return out


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def begun_slice(source: Store, ranges: list[Range]) -> Slice:
    """Return what another store has of ``ranges``."""
    names = source.files_with(ranges)
    return Slice(tuple(source.root.uri(source.folder, name) for name in names), tuple(ranges))


def _cut(ranges: list[Range], size: int) -> Iterator[Range]:
    for item in ranges:
        end = item.first + item.size
        for at in range(item.first, end, size):
            yield Range(item.problem_key, at, min(size, end - at))
