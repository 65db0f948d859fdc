"""The state of each stage while a run executes: what is ready, what is in flight, what is done.

States hold counts and ranges, never rows. The driver asks each for tasks it may submit, tells it which parts came back,
and tells everyone which ranges were committed; nothing waits for a whole stage unless its scope demands it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.planning.plan import ALLOCATIONS, RunPlan, StagePlan, missing_ranges
from cluster.spending.loan import Loan
from cluster.storage.parts import Part
from cluster.storage.queue import RangeQueue
from cluster.storage.ranges import Ints, Ranges, RangeSet
from cluster.storage.slices import Slice
from cluster.working.compaction import Merge, next_merge
from cluster.working.journal import FOLDER, forget, forget_all
from cluster.working.work import Done, Task, Work
from operators.piecewise import PiecewiseOperator
from schemas.datasets import dataset_name
from schemas.manifest import StageRecord

TALLIED = (
    *("failed", "accepted", "unparseable", "truncated"),
    *("prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
)
"""Sums over a part's rows that go into the stage's record."""
TASK_SAMPLES = 20_000
"""Sample-scope work is cut into tasks of about this many samples."""
ENGINE_SAMPLES = 512
"""Tasks that ask an engine are smaller: the next one waits already."""
PAID_SAMPLES = 16
"""Smaller still where a budget may end in the middle: as many as the engine takes at once, and so many at least."""
FAILED_MERGES = 3
"""After so many failed merges of a store a run leaves its small files as they are."""

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
        self.loan: Loan | None = None
        """How a stage that asks an engine about samples is paid, where there is a budget."""
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
            self._left = self.asks and bool(self.run.root.list(FOLDER, self.plan.folder))
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
        self._merging = False
        self._failed_merges = 0
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

    def commit(self) -> Ranges:
        """Commit what waits, as one transaction; return the ranges that are new facts."""
        parts = [part for part in self.uncommitted if part.rows]
        committed = self.store.commit(parts) if parts else []
        self.uncommitted, self.fresh = [], committed
        self.record.computed += sum(part.rows for part in committed)
        for name in TALLIED:
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

    def merge(self) -> Merge | None:
        """Return a merge of small files that is due; one at a time."""
        if self._merging or self.store.lease is None:
            return None
        names = next_merge(self.store.sizes)
        if not names or self.store.root.free_bytes() < 4 * sum(self.store.sizes[name] for name in names):
            return None  # the old files stay until they are vacuumed, and samples need the space more
        self._merging = True
        rows = sum(self.store.files.of(name).total for name in names)
        number, url = next_number(), self.run.root.url
        return Merge(number, self.name, url, self.plan.folder, self.store.contract, tuple(names), rows)

    def on_merged(self, merge: Merge, done: Done | None) -> None:
        """Commit a merge; None where it failed: it isn't needed, and after a few failures this run tries no more."""
        if done is not None:
            self.store.replace(merge.files, done.part)
        else:
            self._failed_merges += 1
        self._merging = self._failed_merges >= FAILED_MERGES


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

    def tasks(self) -> Iterator[Work]:
        room = TASK_SAMPLES
        if self.asks:
            room = ENGINE_SAMPLES if self.loan is None else max(PAID_SAMPLES, self.capacity)
        while self._pending and not self.closed:
            yield self._task(self._pending.take(room))

    def _task(self, ranges: Ranges) -> Task:
        numbers = np.unique(ranges.numbers)
        inputs = {name: input_slice(self.upstream(name), self.run, ranges, numbers) for name in self.plan.stage.inputs}
        return self.task(inputs, ranges.total)


class ChunkState(StageState):
    """A problem-scope stage: a chunk of problems is computed when all of them are sealed."""

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        self._parts: dict[str, int] = {}
        self._ready: deque[int] = deque()
        self._chunk_of = np.empty(len(run.problems), np.int32)
        self._open: dict[str, NDArray[np.bool_]] = {}
        """Store stage -> which problems' samples aren't all there."""
        self._waits = np.zeros(len(run.chunks), np.int64)
        """What each chunk still waits for: problems of a store, parts of a problem-scope snapshot."""
        if self.complete:
            return
        for index, numbers in enumerate(run.chunks):
            self._chunk_of[numbers] = index
        self._piecewise: set[str] = set()
        """Problem-scope stages whose parts are waited for."""
        for name, upstream in {stage.name: run.stages[stage.name] for stage in plan.stage.inputs.values()}.items():
            if upstream.store is not None:
                lacking = np.zeros(len(run.problems), np.bool_)
                lacking[missing_ranges(upstream).numbers] = True
                self._open[name] = lacking
                self._waits += np.bincount(self._chunk_of[lacking], minlength=len(run.chunks))
            elif upstream.stage.operator.scope == "problem" and upstream.action != "reuse":
                self._piecewise.add(name)
                self._waits += 1
        self._ready.extend(np.flatnonzero(self._waits == 0).tolist())

    @property
    def waiting(self) -> bool:
        return bool(self._ready) and not self.closed

    def on_committed(self, stage: str, ranges: Ranges) -> None:
        if stage not in self._open or self.complete:
            return
        upstream, lacking = self.run.stages[stage], self._open[stage]
        assert upstream.store is not None
        numbers = np.unique(ranges.numbers)
        numbers = numbers[numbers < len(lacking)]
        numbers = numbers[lacking[numbers]]
        lacking[numbers] = False
        lacking[upstream.store.held.missing(upstream.view.all.of_problems(numbers)).numbers] = True
        arrived = numbers[~lacking[numbers]]
        self._on_arrived(*np.unique(self._chunk_of[arrived], return_counts=True))

    def on_snapshot_part(self, stage: str, index: int) -> None:
        if not self.complete and stage in self._piecewise:
            self._on_arrived(np.array([index]), np.array([1]))

    def _on_arrived(self, chunks: NDArray[Any], counts: NDArray[Any]) -> None:
        self._waits[chunks] -= counts
        self._ready.extend(chunks[self._waits[chunks] == 0].tolist())

    def tasks(self) -> Iterator[Work]:
        while self._ready and not self.closed:
            index = self._ready.popleft()
            yield self.task(chunk_inputs(self.plan, self.run, index), len(self.run.chunks[index]), index)

    def on_finished(self, work: Work, done: Done) -> None:
        super().on_finished(work, done)
        self.record.computed += work.rows
        self._parts[done.part.name] = done.part.rows
        if len(self._parts) == len(self.run.chunks):
            finish_snapshot(self, self._parts)


class DatasetState(StageState):
    """A dataset-scope stage: one task once all inputs are complete."""

    def __init__(self, plan: StagePlan, run: RunPlan, states: dict[str, StageState]) -> None:
        super().__init__(plan, run)
        self._upstream = [states[stage.name] for stage in plan.stage.inputs.values()]
        self._started = self.complete

    def tasks(self) -> Iterator[Work]:
        if self._started or self.closed or not all(state.complete for state in self._upstream):
            return
        self._started = True
        upstream = {name: self.upstream(name) for name in self.plan.stage.inputs}
        inputs = {name: input_slice(plan, self.run, plan.view.ranges, None) for name, plan in upstream.items()}
        task = self.task(inputs, self.plan.planned)
        reads = max(plan.view.total for plan in upstream.values())
        in_pieces = (
            isinstance(task.operator, PiecewiseOperator)
            and not task.operator.whole_inputs() & inputs.keys()
            and all(plan.stage.operator.scope != "dataset" for plan in upstream.values())
        )
        pieces = tuple(chunk_inputs(self.plan, self.run, i) for i in range(len(self.run.chunks))) if in_pieces else ()
        yield replace(task, pieces=pieces, reads=reads)

    def on_finished(self, work: Work, done: Done) -> None:
        super().on_finished(work, done)
        self.record.computed += work.rows
        finish_snapshot(self, {done.part.name: done.part.rows})


def chunk_inputs(plan: StagePlan, run: RunPlan, index: int) -> dict[str, Slice]:
    """Return what a stage reads of the problems in one chunk."""
    numbers = run.chunks[index]
    inputs: dict[str, Slice] = {}
    for name, stage in plan.stage.inputs.items():
        upstream = run.stages[stage.name]
        if upstream.store is None and stage.operator.scope == "problem" and upstream.action != "reuse":
            assert upstream.snapshot is not None
            inputs[name] = Slice((upstream.snapshot.part_uri(index),))
        else:
            inputs[name] = input_slice(upstream, run, upstream.view.all.of_problems(numbers), numbers)
    return inputs | _rules(plan, run, numbers)


def _rules(plan: StagePlan, run: RunPlan, numbers: Ints | None) -> dict[str, Slice]:
    """Return what to read of the rules by which samples came about, for a stage that asks."""
    keys = None if numbers is None else run.problems.numbering.keys(numbers)
    return {} if plan.rules is None else {ALLOCATIONS: Slice(plan.rules.uris, problem_keys=keys)}


def finish_snapshot(state: StageState, parts: dict[str, int]) -> None:
    """Write the manifest of a stage whose parts are all there."""
    snapshot = state.plan.snapshot
    assert snapshot is not None
    views = {name: state.upstream(name).view_id for name in state.plan.stage.inputs}
    snapshot.finish(parts, state.plan.stage.operator.fingerprint(), views)
    state.record.complete = True
    if state.asks:
        forget_all(state.run.root, state.plan.folder)


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
