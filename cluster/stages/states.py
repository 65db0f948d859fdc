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

from cluster.planning.plan import RunPlan, StagePlan, missing_ranges
from cluster.storage.parts import Part
from cluster.storage.ranges import Range, RangeMap
from cluster.storage.slices import Slice
from cluster.working.compaction import Merge, next_merge
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
"""And work that asks an engine into smaller ones: they are its unit of loss, and the next ones are there already."""
FAILED_MERGES = 3
"""So many merges of a store may fail before a run leaves its small files as they are."""

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
        )

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

    def on_committed(self, stage: str, ranges: list[Range]) -> None:
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
        self.quarantined = RangeMap()
        """Keys whose work keeps failing; left out of this run."""
        self._sealed = 0
        self._merging = False
        self._failed_merges = 0

    def read_view(self, run: RunPlan, plan: StagePlan) -> None:
        """Hear which rows the run is about, now that its policies have ended; all of them are there."""
        self.run, self.plan = run, plan
        record = self.record
        record.view_id, record.planned, record.reused = plan.view_id, plan.planned, plan.held - record.computed
        self._sealed = 0
        self._seal()

    def _seal(self) -> None:
        held, ranges = self.store.held, self.plan.ranges
        while self._sealed < len(ranges) and held.covers(ranges[self._sealed]):
            self._sealed += 1
        self.record.complete = self._sealed == len(ranges)

    def commit(self) -> list[Range]:
        """Commit what waits, as one transaction; return the ranges that are new facts."""
        parts = [part for part in self.uncommitted if part.rows]
        committed = self.store.commit(parts) if parts else []
        self.uncommitted, self.fresh = [], committed
        self.record.computed += sum(part.rows for part in committed)
        for name in TALLIED:
            added = int(sum(part.tallies.get(name, 0) for part in committed))
            setattr(self.record, name, getattr(self.record, name) + added)
        self.touch()
        self._seal()
        return self.store.take_news()

    def merge(self) -> Merge | None:
        """Return a merge of small files that is due; one at a time."""
        if self._merging or self.store.lease is None:
            return None
        names = next_merge(self.store.sizes)
        if not names or self.store.root.free_bytes() < 4 * sum(self.store.sizes[name] for name in names):
            return None  # the old files stay until they are vacuumed, and samples need the space more
        self._merging = True
        files = {name: tuple(self.store.files[name]) for name in names}
        return Merge(next_number(), self.name, self.run.root.url, self.plan.folder, self.store.contract, files)

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
        self._wanted = RangeMap(plan.ranges)
        self._claimed = RangeMap()
        self._pending: deque[Range] = deque()
        for item in missing_ranges(plan):
            self._enqueue(item)

    @property
    def waiting(self) -> bool:
        return bool(self._pending)

    def on_committed(self, stage: str, ranges: list[Range]) -> None:
        if stage in self._stores:
            for item in ranges:
                for wanted in self._wanted.present(item):
                    self._enqueue(wanted)

    def _enqueue(self, item: Range) -> None:
        """Queue the keys of ``item`` that all inputs have, and that are neither done nor on their way."""
        ready = [item]
        for upstream in self._stores.values():
            assert upstream.store is not None
            ready = [piece for wanted in ready for piece in upstream.store.held.present(wanted)]
        for piece in (gap for found in ready for gap in self.store.held.missing(found)):
            for fresh in self._claimed.missing(piece):
                self._claimed.add(fresh)
                self._pending.append(fresh)

    def tasks(self) -> Iterator[Work]:
        while self._pending:
            ranges: list[Range] = []
            room = TASK_SAMPLES if self.plan.stage.engine is None else ENGINE_SAMPLES
            while self._pending and room > 0:
                item = self._pending.popleft()
                if item.size > room:
                    self._pending.appendleft(Range(item.problem_key, item.first + room, item.size - room))
                    item = Range(item.problem_key, item.first, room)
                ranges.append(item)
                room -= item.size
            yield self._task(ranges)

    def _task(self, ranges: list[Range]) -> Task:
        keys = tuple(dict.fromkeys(item.problem_key for item in ranges))
        inputs = {name: input_slice(self.upstream(name), ranges, keys) for name in self.plan.stage.inputs}
        return self.task(inputs, sum(item.size for item in ranges))

    def on_finished(self, work: Work, done: Done) -> None:
        super().on_finished(work, done)
        self.uncommitted.append(done.part)


class ChunkState(StageState):
    """A problem-scope stage: a chunk of problems is computed when all of them are sealed."""

    def __init__(self, plan: StagePlan, run: RunPlan) -> None:
        super().__init__(plan, run)
        self._parts: dict[str, int] = {}
        inputs = {stage.name: run.stages[stage.name] for stage in plan.stage.inputs.values()}
        self._stores = {name: upstream for name, upstream in inputs.items() if upstream.stage.is_store}
        self._chunk_of = {key: index for index, keys in enumerate(run.chunks) for key in keys}
        # what each chunk still waits for: (stage, problem) of a store, (stage, "") of a problem-scope snapshot
        self._waits: list[set[tuple[str, str]]] = [set() for _ in run.chunks]
        self._ready: deque[int] = deque()
        if self.complete:
            return
        for name, upstream in inputs.items():
            if upstream.store is not None:
                for item in upstream.ranges:
                    if not upstream.store.held.covers(item):
                        self._waits[self._chunk_of[item.problem_key]].add((name, item.problem_key))
            elif upstream.stage.operator.scope == "problem" and upstream.action != "reuse":
                for waits in self._waits:
                    waits.add((name, ""))
        self._wanted: dict[str, dict[str, list[Range]]] = {}
        for name, upstream in self._stores.items():
            wanted = self._wanted.setdefault(name, {})
            for item in upstream.ranges:
                wanted.setdefault(item.problem_key, []).append(item)
        self._ready.extend(index for index, waits in enumerate(self._waits) if not waits)

    @property
    def waiting(self) -> bool:
        return bool(self._ready)

    def on_committed(self, stage: str, ranges: list[Range]) -> None:
        if stage not in self._stores or self.complete:
            return
        store = self._stores[stage].store
        assert store is not None
        for key in {item.problem_key for item in ranges} & self._wanted[stage].keys():
            if all(store.held.covers(item) for item in self._wanted[stage][key]):
                self._on_arrived(self._chunk_of[key], (stage, key))

    def on_snapshot_part(self, stage: str, index: int) -> None:
        if not self.complete:
            self._on_arrived(index, (stage, ""))

    def _on_arrived(self, chunk: int, what: tuple[str, str]) -> None:
        waits = self._waits[chunk]
        if what in waits:
            waits.remove(what)
            if not waits:
                self._ready.append(chunk)

    def tasks(self) -> Iterator[Work]:
        while self._ready:
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
        if self._started or not all(state.complete for state in self._upstream):
            return
        self._started = True
        upstream = {name: self.upstream(name) for name in self.plan.stage.inputs}
        inputs = {name: input_slice(plan, plan.ranges, None) for name, plan in upstream.items()}
        task = self.task(inputs, self.plan.planned)
        reads = max(sum(item.size for item in plan.ranges) for plan in upstream.values())
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
    keys = tuple(run.chunks[index])
    inputs: dict[str, Slice] = {}
    for name, stage in plan.stage.inputs.items():
        upstream = run.stages[stage.name]
        if upstream.store is not None:
            inputs[name] = input_slice(upstream, upstream.ranges_of(keys), keys)
        elif stage.operator.scope == "problem" and upstream.action != "reuse":
            assert upstream.snapshot is not None
            inputs[name] = Slice((upstream.snapshot.part_uri(index),))
        else:
            inputs[name] = input_slice(upstream, [], keys)
    return inputs


def finish_snapshot(state: StageState, parts: dict[str, int]) -> None:
    """Write the manifest of a stage whose parts are all there."""
    snapshot = state.plan.snapshot
    assert snapshot is not None
    views = {name: state.upstream(name).view_id for name in state.plan.stage.inputs}
    snapshot.finish(parts, state.plan.stage.operator.fingerprint(), views)
    state.record.complete = True


def input_slice(upstream: StagePlan, ranges: list[Range], keys: tuple[str, ...] | None) -> Slice:
    """Return what to read of ``upstream``: the files that hold ``ranges`` of a store, or the parts of a snapshot."""
    if upstream.store is not None:
        store = upstream.store
        names = store.files_with(ranges)
        return Slice(tuple(store.root.uri(store.folder, name) for name in names), tuple(ranges))
    assert upstream.snapshot is not None
    manifest = upstream.snapshot.manifest()
    assert manifest is not None, f"{upstream.stage.name} was read before it was complete"
    uris = tuple(upstream.snapshot.root.uri(upstream.folder, name) for name in manifest.parts)
    return Slice(uris, problem_keys=keys)
