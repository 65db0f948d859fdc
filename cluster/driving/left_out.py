"""What a run leaves out: rows whose work keeps failing, and problems that it is told to skip."""

from __future__ import annotations

from cluster.driving.control import Control
from cluster.driving.watch import Watch
from cluster.records.recorder import RunRecorder
from cluster.stages.flights import Flight
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StoreState
from cluster.storage.ranges import Ints, Ranges
from cluster.working.work import Task


class LeftOut:
    """Takes rows out of a run, and writes down why."""

    def __init__(self, control: Control, recorder: RunRecorder, watch: Watch) -> None:
        self._control = control
        self._recorder = recorder
        self._watch = watch
        self.skipped: dict[str, set[int]] = {}
        """Sampling stage -> problems that the run was told to skip."""

    def on_quarantined(self, flight: Flight, error: BaseException) -> None:
        """Leave the rows of work that keeps failing out of the run."""
        state, work = flight.state, flight.work
        assert isinstance(state, StoreState) and isinstance(work, Task)
        ranges = work.inputs["samples"].ranges
        assert ranges is not None
        self.leave_out(state, state.store.numbering.ranges(ranges), error)

    def leave_out(self, state: StoreState, ranges: Ranges, error: BaseException) -> None:
        """Leave rows out of the run and write down why."""
        rows = [
            {"stage": state.name, "problem_key": key, "sample_index": index, "error": str(error)}
            for key, first, count in state.store.numbering.keyed(ranges).iter_rows()
            for index in range(first, first + count)
        ]
        self._control.on_left_out(state, ranges)
        state.quarantined.add(ranges)
        state.record.quarantined = len(state.quarantined) - state.record.skipped
        self._recorder.quarantine(rows)
        self._watch.say(f"{len(rows)} row(s) quarantined: {str(error).splitlines()[0][:200]}", state.name)

    def skip(self, state: SampleState, numbers: Ints, why: str) -> None:
        """Leave problems out of the run that it is told to skip: nothing is lacking for that."""
        self.skipped.setdefault(state.name, set()).update(numbers.tolist())
        ranges = state.leave_out(numbers)
        state.quarantined.add(ranges)
        state.record.skipped += ranges.total
        if state.source is not None:
            state.source.ban(numbers)
        self._recorder.manifest.notes.append(why)
        self._watch.say(why, state.name)
