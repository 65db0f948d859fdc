"""The state of each stage while a run executes: what is ready, what is in flight, what is done.

States hold counts and ranges, never rows. The driver asks each for tasks it may submit, tells it which parts came back,
and tells everyone which ranges were committed; nothing waits for a whole stage unless its scope demands it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from cluster.planning.plan import RunPlan, StagePlan, missing_ranges
from cluster.spending.loan import Loan
from cluster.stages.merging import Merging
from cluster.storage.parts import Part
from cluster.storage.queue import RangeQueue
from cluster.storage.ranges import Ints, Ranges, RangeSet
from cluster.storage.slices import Slice
from cluster.working.compaction import Merge
from cluster.working.journal import forget, forget_all
from cluster.working.work import Done, Task, Work
from operators.sample.sampling import Sampling
from schemas.datasets import ANSWERS_FOLDER, dataset_name
from schemas.manifest import StageRecord

TOKENS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
TALLIED = ("failed", "accepted", "unparseable", "truncated", *TOKENS)
TASK_SAMPLES = 20_000
"""Sample-scope work is cut into tasks of about this many samples."""
ENGINE_SAMPLES = 512
"""Tasks that ask an engine are smaller: the next one waits already."""
PAID_SAMPLES = 16
"""Smaller still where a budget may end in the middle: as many as the engine takes at once, and so many at least."""

_numbers = count()


def next_number() -> int:
    """Return a number that no other work of this process has."""
    return next(_numbers)


class StageState:
    """Base: one stage of a running pipeline."""

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        self.plan = plan
        self.run = run
        self.name = plan.stage.name
        self.record = StageRecord(
            name=self.name,
            operator=plan.stage.operator.public_name(),
            dataset=dataset_name(plan.stage.operator.output),
            kind="store" if plan.stage.is_store else "snapshot",
            path=plan.folder,
            view_id=plan.view_id,
            inputs={name: stage.name for name, stage in plan.stage.inputs.items()},
            planned=plan.planned,
            reused=plan.held,
            complete=plan.held >= plan.planned,
        )
        self.in_flight = 0
        self.unsafe = False
        """Whether the stage may run generated programs without a sandbox."""
        self.closed = False
        """Whether its engine may not be asked any more: a deadline has passed, or the money is at its end."""
        self.paused = False
        """Whether nothing new is begun, as people said; what is begun is finished."""
        self.loans: dict[str, Loan] = {}
        """How its calls are paid, by role, where there is a budget; of plain samples ranges are paid (``Purse``)."""
        self.capacity = 0
        """How many requests its engine wants in flight; 0 before that is known."""
        self.short = False
        """Whether calls wait for money."""
        self._left: bool | None = None
        self._began: float | None = None

    @property
    def complete(self) -> bool:
        return self.record.complete

    @property
    def rows(self) -> int:
        """Sample rows of one draw: more than one where a strategy's episodes are drawn."""
        operator = self.plan.stage.operator
        return operator.rows if isinstance(operator, Sampling) else 1

    @property
    def waiting(self) -> bool:
        """Whether there is work that nobody does yet."""
        return False

    def tasks(self) -> Iterator[Work]:
        """Yield what can be submitted now; taking one from the iterator commits to submitting it."""
        return iter(())

    @property
    def asks(self) -> bool:
        """Whether its work asks an engine."""
        return self.plan.stage.engine is not None and not self.plan.stage.samples

    def _was_begun(self) -> bool:
        """Whether earlier work of the stage, which came to nothing, left answers."""
        if self._left is None:
            self._left = self.asks and bool(self.run.root.list(ANSWERS_FOLDER, self.plan.folder))
        return self._left

    def task(self, inputs: dict[str, Slice], rows: int, index: int = 0) -> Task:
        """Describe one call of this stage's operator about ``rows`` samples (stores) or problems (snapshots)."""
        plan = self.plan
        folder = plan.folder if plan.stage.is_store else None
        root = self.run.root.url
        return Task(
            next_number(),
            self.name,
            plan.stage.operator,
            root,
            inputs,
            folder,
            plan.view_id,
            index=index,
            rows=rows,
            unsafe=self.unsafe,
            again=self._was_begun(),
        )

    def flush_log(self) -> None:
        """Make durable what must be before anything is sent."""

    def on_submitted(self) -> None:
        """Note that a task left."""
        self.in_flight += 1
        self.touch()

    def on_landed(self) -> None:
        """Note that a task came back, whatever became of it."""
        self.in_flight -= 1

    def on_finished(self, work: Work, done: Done) -> None:
        """Take a task's result."""
        self.record.busy_seconds += done.seconds
        self.touch()

    def on_committed(self, stage: str, ranges: Ranges) -> None:
        """Hear that keys of another (or this) store stage are now facts."""

    def on_snapshot_part(self, stage: str, index: int) -> None:
        """Hear that another stage's part is written."""

    def touch(self) -> None:
        """Keep the stage's wall time: from its first piece of work to its last."""
        now = time.monotonic()
        self._began = self._began or now
        self.record.seconds = now - self._began

    def upstream(self, input_name: str) -> StagePlan:
        return self.run.stages[self.plan.stage.inputs[input_name].name]


class StoreState(StageState):
    """A stage whose rows go to a store: parts wait here until the driver commits them."""

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        assert plan.store is not None
        self.store = plan.store
        self.store.take_news()
        self.uncommitted: list[Part] = []
        self.fresh: list[Part] = []
        """What the latest commit made facts."""
        self.quarantined = RangeSet()
        """Samples whose work keeps failing; left out of this run."""
        self._lacks = plan.view.total
        """How many samples of the view aren't committed."""
        self._seal(self.store.held.present(plan.view.all.ranges))
        self._merging = [Merging(self.store, self.name)]
        self._answers: list[str] = []
        """Files that are of no use once what waits is committed."""

    def on_finished(self, work: Work, done: Done) -> None:
        super().on_finished(work, done)
        self.uncommitted.append(done.part)
        self._answers += done.answers

    def read_view(self, run: RunPlan, plan: StagePlan) -> None:
        """Hear which rows the run is about, now that its policies have ended; all of them are there."""
        self.run, self.plan = run, plan
        record = self.record
        record.view_id, record.planned, record.reused = plan.view_id, plan.planned, plan.held - record.computed
        self._lacks = plan.view.total
        self._seal(self.store.held.present(plan.view.all.ranges))

    def _seal(self, news: Ranges) -> None:
        """Count what became a fact."""
        self._lacks -= self.plan.view.all.present(news).total
        self.record.complete = self._lacks == 0

    @property
    def tallied(self) -> tuple[str, ...]:
        """Sums over a part's rows that go into the stage's record."""
        return TALLIED

    @property
    def has_uncommitted(self) -> bool:
        return bool(self.uncommitted)

    def commit(self) -> Ranges:
        """Commit what waits, as one transaction; return the ranges that are new facts."""
        parts = [part for part in self.uncommitted if part.rows]
        committed = self.store.commit(parts) if parts else []
        self.uncommitted, self.fresh = [], committed
        self.record.computed += sum(part.rows for part in committed)
        for name in self.tallied:
            added = int(sum(part.tallies.get(name, 0) for part in committed))
            setattr(self.record, name, getattr(self.record, name) + added)
        self.touch()
        news = self.store.take_news()
        self._seal(news)
        self._forget_answers()
        return news

    def _forget_answers(self) -> None:
        answers, self._answers = self._answers, []
        if self.asks and self.complete:
            forget_all(self.run.root, self.plan.folder)
        elif answers:
            forget(self.run.root, self.plan.folder, answers)

    def cut(self, ranges: Ranges, then: Callable[[bool], None]) -> None:
        """Take rows out of the store, to be made again; ``then`` hears whether they are gone."""
        self._merging[0].cut(ranges, then)

    @property
    def cutting(self) -> bool:
        """Whether rows are still to be taken out of the store."""
        return self._merging[0].cutting

    def on_taken_out(self, ranges: Ranges) -> None:
        """Hear that rows aren't in the store any more."""
        lacking = self.plan.view.all.present(ranges).total
        self._lacks += lacking
        record = self.record
        record.complete = self._lacks == 0
        mine = min(lacking, record.computed)
        record.computed, record.reused = record.computed - mine, record.reused - (lacking - mine)

    def merge(self) -> Merge | None:
        """Return a merge of small files that is due; one at a time."""
        for merging in self._merging:
            if (merge := merging.next(next_number())) is not None:
                return merge
        return None

    def on_merged(self, merge: Merge, done: Done | None) -> None:
        """Hear of a merge; None where it failed."""
        for merging in self._merging:
            if merging.store.folder == merge.folder:
                merging.on_merged(merge, done)


class StreamState(StoreState):
    """A sample-scope stage: works on samples as they are committed, before their problem is complete."""

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        self._stores = {stage.name: run.stages[stage.name] for stage in plan.stage.inputs.values() if stage.is_store}
        self._claimed = RangeSet()
        """What is queued or under way, or was left out."""
        self._pending = RangeQueue()
        self._enqueue(missing_ranges(plan))

    @property
    def waiting(self) -> bool:
        return bool(self._pending) and not self.closed

    def on_committed(self, stage: str, ranges: Ranges) -> None:
        if stage in self._stores:
            self._enqueue(self.plan.view.all.present(ranges))
        if stage == self.name:
            self._claimed.remove(ranges)

    def _enqueue(self, ranges: Ranges) -> None:
        """Queue the samples of ``ranges`` that all inputs have, and that are neither done nor on their way."""
        for upstream in self._stores.values():
            assert upstream.store is not None
            ranges = upstream.store.held.present(ranges)
        fresh = self._claimed.missing(self.store.held.missing(ranges))
        self._claimed.add(fresh)
        self._pending.append(fresh)

    def is_at(self, ranges: Ranges) -> bool:
        """Whether some rows are under way; those that were left out aren't."""
        queued = RangeSet(self._pending.ranges.merged())
        return bool(self.quarantined.missing(queued.missing(self._claimed.present(ranges))))

    def unqueue(self, ranges: Ranges) -> None:
        """Forget of rows that they are to be made; they come again."""
        gone = RangeSet(ranges)
        self._claimed.remove(RangeSet(self._pending.ranges.merged()).present(ranges))
        self._pending = RangeQueue(gone.missing(self._pending.ranges))

    def take_up(self, ranges: Ranges) -> None:
        """Make rows after all that were left out."""
        self._claimed.remove(ranges)
        self._enqueue(ranges)

    def tasks(self) -> Iterator[Work]:
        room = TASK_SAMPLES
        if self.asks:
            room = ENGINE_SAMPLES if not self.loans else max(PAID_SAMPLES, self.capacity)
        while self._pending and not self.closed:
            yield self._task(self._pending.take(room))

    def _task(self, ranges: Ranges) -> Task:
        numbers = np.unique(ranges.numbers)
        inputs = {name: input_slice(self.upstream(name), self.run, ranges, numbers) for name in self.plan.stage.inputs}
        return self.task(inputs, ranges.total)


def input_slice(upstream: StagePlan, run: RunPlan, ranges: Ranges, numbers: Ints | None) -> Slice:
    """Return what to read of ``upstream``: some ranges of a store, or what a snapshot has of some problems (or all)."""
    if upstream.store is not None:
        return upstream.store.slice(ranges)
    if numbers is not None and upstream.stage.operator.scope == "source":
        return run.problems.slice(numbers)
    assert upstream.snapshot is not None
    manifest = upstream.snapshot.manifest()
    assert manifest is not None, f"{upstream.stage.name} was read before it was complete"
    uris = tuple(upstream.snapshot.root.uri(upstream.folder, name) for name in manifest.parts)
    return Slice(uris, problem_keys=None if numbers is None else run.problems.numbering.keys(numbers))
