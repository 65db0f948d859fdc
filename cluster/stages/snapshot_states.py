"""The states of stages whose results are snapshots: computed once all of what they read of a problem is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.planning.plan import ALLOCATIONS, RunPlan, StagePlan, missing_ranges
from cluster.stages.states import StageState, input_slice
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.slices import Slice
from cluster.working.journal import forget_all
from cluster.working.work import Done, Work
from operators.piecewise import PiecewiseOperator


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

    def has_begun(self, number: int) -> bool:
        """Whether a problem's rows were read, or are about to be."""
        return self.complete or bool(self._waits[self._chunk_of[number]] <= 0)

    def reopen(self, stage: str, number: int) -> None:
        """Hear that a problem's rows of a store go, and will come again; they weren't read yet."""
        if stage in self._open and not self._open[stage][number]:
            self._open[stage][number] = True
            self._waits[self._chunk_of[number]] += 1

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
        self.started = self.complete

    def tasks(self) -> Iterator[Work]:
        if self.started or self.closed or not all(state.complete for state in self._upstream):
            return
        self.started = True
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
