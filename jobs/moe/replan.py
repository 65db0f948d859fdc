"""A nightly run's own expert placement: planned from the tokens that earlier nights' engines counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cluster.moe.emit import emit
from cluster.moe.place import place_counts, worth_moving_by_counts
from cluster.moe.placement import Placement, Shape, read_placement
from cluster.moe.routing import read_counts
from jobs.moe.outlook import experts_of
from schemas.engine import EngineSpec, VllmSpec

PLAN = "GRISTMILL_EXPERT_PLAN"
GPUS_PER_NODE = 8


def plan_file(spec: VllmSpec) -> Path | None:
    """Return where an engine's plan lies: beside its counts, where its workers can read it."""
    return Path(spec.expert_counts).expanduser() / "plan" / "plan.json" if spec.expert_counts else None


def shape_of(spec: VllmSpec) -> Shape | None:
    """Return where an engine's experts go; None where it doesn't spread them, or they don't divide."""
    found = experts_of(spec)
    if found is None or not spec.expert_parallel or not found["divides"]:
        return None
    gpus, slots = int(found["ranks"]), int(found["experts"]) + int(found["redundant"])
    return Shape(max(1, gpus // GPUS_PER_NODE), gpus, slots)


def replan_experts(spec: EngineSpec) -> dict[str, str]:
    """Return the environment that gives an engine a placement planned from its own counts; empty where it has none.

    It needs vLLM's own balancer (``enable_eplb``), which follows the plan. A plan that is there is kept until a new one
    is so much better that moving experts pays.
    """
    if not isinstance(spec, VllmSpec) or not spec.engine_kwargs.get("enable_eplb"):
        return {}
    found, shape, place = experts_of(spec), shape_of(spec), plan_file(spec)
    if found is None or shape is None or place is None or not any(place.parents[1].glob("*.parquet")):
        return {}
    counts = read_counts(str(place.parents[1]))
    if counts.shape[1] > found["experts"]:
        return {}
    counts = np.pad(counts, ((0, 0), (0, found["experts"] - counts.shape[1])))
    plan = place_counts(counts, shape, model=str(found["model"]))
    if place.exists() and not _better(read_placement(str(place)), plan):
        plan = read_placement(str(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    plan.write(str(place))
    engine_plan = place.with_suffix(".npz")
    emit(plan, "vllm", str(engine_plan))
    return {PLAN: str(engine_plan)}


def _better(running: Placement, new: Placement) -> bool:
    """Whether the running plan is for something else, or moving to a new one pays."""
    if running.shape != new.shape or running.experts != new.experts or new.counts is None:
        return True
    return worth_moving_by_counts(running, new, new.counts)
