"""Rows of one problem that are made again while a run goes on: refused, quarantined, or such as could not be drawn.

What a server refused is a fact in the store, with what was said about it in others. These rows are taken out, those
of later stages first, so that nothing is ever said about a sample that isn't there; then the sample is drawn again. A
stage that has read the problem's rows already can't unread them: then the order is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from cluster.driving.control import Control
from cluster.driving.left_out import LeftOut
from cluster.records.reader import open_stage
from cluster.records.recorder import RunRecorder
from cluster.stages.sample_state import SampleState
from cluster.stages.snapshot_states import ChunkState, DatasetState
from cluster.stages.states import StageState, StoreState, StreamState
from cluster.storage.ranges import Ranges, ranges_of
from cluster.storage.root import Root
from schemas.datasets import SAMPLE_KEY, Sample
from schemas.errors import BadInput

AFTERWARDS = "once the run has ended, the same command with --retry-errors makes them again"


class Requeue:
    """Makes rows of one run again.

    Args:
        say: tells whoever watches.
    """

    def __init__(
        self, root: Root, control: Control, left_out: LeftOut, recorder: RunRecorder, say: Callable[[str], None]
    ) -> None:
        self.root = root
        self._control = control
        self._left_out = left_out
        self._recorder = recorder
        self._say = say

    def order(self, states: Mapping[str, StageState], problem: str) -> str:
        """Make a problem's refused and quarantined rows again; return what was done.

        Raises:
            BadInput: no such problem, nothing of it to be made again, or it is too late.
        """
        key = self._key(states, problem)
        stores = [state for state in states.values() if isinstance(state, StoreState)]
        number = int(stores[0].store.numbering.find(pl.Series([key]))[0])
        refused = {state: rows for state in stores if (rows := self._refused(state, number))}
        mine = {state: rows for state in stores if (rows := self._quarantined(state, number))}
        lost = {state: rows for state in stores if (rows := _lost(state, number))}
        if not (refused or mine or lost):
            raise BadInput(f"problem '{problem}' has no refused and no quarantined rows in this run")
        self._check(states, refused, number)
        if self._control.over([*refused, *mine, *lost]):
            raise BadInput(f"the sampling of this run has ended; {AFTERWARDS}")
        said = [
            f"{sum(rows.total for rows in found.values()):,} {words}"
            for found, words in ((refused, "refused"), (mine, "quarantined"), (lost, "that could not be drawn"))
            if found
        ]
        for state, rows in mine.items():
            self._again(state, rows)
            state.quarantined.remove(rows)
            state.record.quarantined = len(state.quarantined) - state.record.skipped
            self._recorder.take_up(state.name, key)
        for state, rows in lost.items():
            assert isinstance(state, SampleState)
            state.lost = [one for one in state.lost if one[0] != number]
            self._again(state, rows)
        for state, rows in refused.items():
            self._take_out(states, state, rows, number)
        return f"problem '{problem}': {' and '.join(said)} row(s) are made again"

    def _key(self, states: Mapping[str, StageState], problem: str) -> str:
        source = next(iter(states))
        names = open_stage(self.root, self._recorder.manifest, source).select("problem_key", "problem_id")
        found = names.filter((pl.col("problem_id") == problem) | (pl.col("problem_key") == problem)).collect()
        if len(found) != 1:
            many = "several problems are" if len(found) else "no problem of this run is"
            raise BadInput(f"{many} called '{problem}'; give its problem_id, or its problem_key")
        return str(found["problem_key"][0])

    # -- what there is ---------------------------------------------------------------------------------------------

    def _refused(self, state: StoreState, number: int) -> Ranges:
        """Return the samples of a problem that the store has as refused."""
        if not isinstance(state, SampleState) or state.operator.strategy is not None:
            return Ranges.none()  # an episode is one piece, with calls of its own
        there = state.plan.view.all.of_problems(np.array([number]))
        rows = state.store.slice(state.store.held.present(there)).read(self.root, Sample.select(*SAMPLE_KEY, "status"))
        refused = rows.filter(pl.col("status") == "error").sort(SAMPLE_KEY)
        return state.store.numbering.ranges(ranges_of(refused)) if len(refused) else Ranges.none()

    def _quarantined(self, state: StoreState, number: int) -> Ranges:
        if number in self._left_out.skipped.get(state.name, ()):
            return Ranges.none()  # its prompt is as long as before
        return state.quarantined.of_problems(np.array([number]))

    def _check(self, states: Mapping[str, StageState], refused: Mapping[StoreState, Ranges], number: int) -> None:
        """Refuse what can't be taken back.

        Raises:
            BadInput: a stage has read it, or is about to write something about it.
        """
        for state in states.values():
            read = isinstance(state, DatasetState) and state.started
            if read or (isinstance(state, ChunkState) and state.has_begun(number)):
                raise BadInput(f"stage {state.name} has read this problem's rows already; {AFTERWARDS}")
        for sampling, rows in refused.items():
            for state in (sampling, *_about(states, sampling)):
                if state.cutting:
                    raise BadInput(f"rows of stage {state.name} are being taken out just now; give the order again")
                if state.store.held.present(rows) and state.store.lease is None:
                    raise BadInput(f"stage {state.name} was complete when the run began; {AFTERWARDS}")
                if isinstance(state, StreamState) and state.is_at(rows):
                    raise BadInput(f"stage {state.name} is working on these rows just now; give the order again")

    # -- making them again -----------------------------------------------------------------------------------------

    def _again(self, state: StoreState, rows: Ranges) -> None:
        if isinstance(state, SampleState):
            state.draw_again(rows.over(state.rows))
        elif isinstance(state, StreamState):
            state.take_up(rows)
        self._control.on_taken_up(state, rows)

    def _take_out(self, states: Mapping[str, StageState], sampling: StoreState, rows: Ranges, number: int) -> None:
        """Take samples out of their store, after all that is said about them; then draw them again.

        Where one of the stores keeps its rows, the samples stay, and what is gone that was said of them is made again.
        """
        about = list(_about(states, sampling))
        chunks = [state for state in states.values() if isinstance(state, ChunkState)]
        for chunk in chunks:
            for other in (sampling, *about):
                chunk.reopen(other.name, number)
        for state in about:
            state.unqueue(rows)
        cuts = {state: held for state in about if (held := state.store.held.present(rows))}
        waits, stays = set(cuts), list[StreamState]()

        def on_said_gone(state: StreamState, gone: bool) -> None:
            waits.remove(state)
            if gone:
                state.on_taken_out(cuts[state])
            else:
                stays.append(state)
            if stays and not waits:
                give_up(stays[0])
            elif not waits:
                sampling.cut(rows, on_gone)

        def on_gone(gone: bool) -> None:
            if not gone:
                give_up(sampling)
                return
            sampling.on_taken_out(rows)
            self._again(sampling, rows)

        def give_up(kept: StoreState) -> None:
            self._say(f"stage {kept.name}: {rows.total} refused row(s) couldn't be taken out; {AFTERWARDS}")
            for state in about:
                state.take_up(rows)
            for chunk in chunks:
                for other in (sampling, *about):
                    chunk.on_committed(other.name, rows)

        if not cuts:
            sampling.cut(rows, on_gone)
        for state, held in cuts.items():
            state.cut(held, lambda gone, state=state: on_said_gone(state, gone))


def _about(states: Mapping[str, StageState], sampling: StoreState) -> list[StreamState]:
    """Return the stages whose rows are about a sampling stage's samples, in the order of the pipeline."""
    reads, found = {sampling.name}, list[StreamState]()
    for state in states.values():
        if isinstance(state, StreamState) and reads & {stage.name for stage in state.plan.stage.inputs.values()}:
            reads.add(state.name)
            found.append(state)
    return found


def _lost(state: StoreState, number: int) -> Ranges:
    """Return the samples of a problem that could not be drawn."""
    if not isinstance(state, SampleState):
        return Ranges.none()
    firsts = [index for of, index, _ in state.lost if of == number]
    return Ranges.of(number, np.array(firsts), state.rows).sorted() if firsts else Ranges.none()
