"""The state of each stage, by what the stage is about."""

from __future__ import annotations

from cluster.planning.plan import RunPlan, StagePlan
from cluster.stages.sample_state import SampleState
from cluster.stages.snapshot_states import ChunkState, DatasetState
from cluster.stages.states import StageState, StreamState


def make_states(run_plan: RunPlan) -> dict[str, StageState]:
    """Return the states of all stages of a plan, in its order."""
    states: dict[str, StageState] = {}
    for name, plan in run_plan.stages.items():
        states[name] = make_state(run_plan, plan, states)
    return states


def make_state(run_plan: RunPlan, plan: StagePlan, states: dict[str, StageState]) -> StageState:
    """Return the state of one stage; ``states`` has those of the stages that it reads."""
    scope = plan.stage.operator.scope
    if scope == "source":
        return StageState(plan, run_plan)
    if plan.stage.samples:
        return SampleState(plan, run_plan)
    if scope == "sample":
        return StreamState(plan, run_plan)
    if scope == "problem":
        return ChunkState(plan, run_plan)
    return DatasetState(plan, run_plan, states)
