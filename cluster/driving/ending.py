"""How a run ended: in which state, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from cluster.driving.money import Money
from cluster.records.recorder import RunRecorder
from cluster.runners.interruption import Interruption
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState, StoreState
from cluster.storage.delta_log import LOG
from schemas.errors import BadInput, RootLost, RunIncomplete
from schemas.manifest import RunManifest, RunState


def outcome(
    states: Collection[StageState], money: Money, interruption: Interruption, manifest: RunManifest
) -> RunState:
    """Return the state in which a run ended that wasn't broken off; why goes into its manifest."""
    if money.gate_failed:
        manifest.error, manifest.gate_failed = money.stopped, True
        return "failed"
    if money.reached is not None and not interruption.requested:
        manifest.error = f"budget reached: {money.reached}"
        return "incomplete" if _lacks_rows(states) else "budget reached"
    if all(state.complete for state in states) and not _lacks_rows(states):
        manifest.error = None  # of an order to end that came when nothing was left to be done
        return "done"
    return "interrupted" if interruption.requested else "incomplete"


def _lacks_rows(states: Collection[StageState]) -> bool:
    """Whether rows were asked for that could not be made."""
    return any(s.record.quarantined or (isinstance(s, SampleState) and s.lost) for s in states)


def with_reasons(
    error: BaseException, states: Collection[StageState], refusals: Callable[[], list[str]]
) -> BaseException:
    """Return why a run really ended that ends because a stage has nothing to work on: nothing could be drawn, or all
    that was drawn was refused.

    Args:
        refusals: reads in which words.
    """
    sampling = [state for state in states if isinstance(state, SampleState)]
    if not isinstance(error, BadInput) or any(state.record.computed > state.record.failed for state in sampling):
        return error
    lost = [(state, *one) for state in sampling for one in state.lost]
    if lost:
        _, _, _, why = lost[0]
        return RunIncomplete(f"{len(lost):,} sample(s) could not be drawn: {why}. So: {error}")
    if any(state.record.failed for state in sampling):
        return BadInput(f"{'; '.join(refusals())}. So: {error}")
    return error


def what_is_lacking(states: Collection[StageState], recorder: RunRecorder, error: str | None) -> str | None:
    """Return a run's error with what it lacks: samples that could not be drawn, rows that are quarantined."""
    lost = [
        f"{s.store.numbering.keys(np.array([number]))[0]}/{index}: {why}"
        for s in states
        if isinstance(s, SampleState)
        for number, index, why in s.lost
    ]
    quarantined = sum(s.record.quarantined for s in states)
    said = [] if error is None else [error]
    if lost and not (error and "could not be drawn" in error):
        said.append(f"{len(lost)} sample(s) could not be drawn, for example {lost[0]}")
    if quarantined:
        said.append(
            f"{quarantined} row(s) are quarantined, because the work on them keeps failing: see "
            f"{recorder.root.uri(recorder.folder, 'quarantine.jsonl')}"
        )
    return "; ".join(said) or None


def lost_root(states: Collection[StageState], recorder: RunRecorder) -> RootLost | None:
    """Return what to say where a run failed because its root isn't there any more, or can't be written."""
    root = recorder.root
    try:
        root.check_there()
        for state in states:
            if isinstance(state, StoreState) and state.store.lease is not None:
                root.check_there(f"{state.store.folder}/{LOG}")
        recorder.write()
    except RootLost as error:
        return error
    except Exception:  # of what ails the storage otherwise, the run's own error tells
        return None
    return None
