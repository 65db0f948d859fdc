"""What a plan tells of a mixture of experts before any GPU is started: how its experts lie on an engine's ranks."""

from __future__ import annotations

import json
from typing import Any

from cluster.moe.known import CONFIGS
from cluster.moe.layout import memory_of
from cluster.moe.models import MoeModel, read_model
from schemas.engine import EngineSpec, VllmSpec
from schemas.errors import BadInput


def experts_of(spec: EngineSpec | None) -> dict[str, Any] | None:
    """Return how the experts of an engine's model lie on its ranks, in figures; None where it isn't one we know of."""
    if not isinstance(spec, VllmSpec):
        return None
    model = _model(spec.model)
    if model is None:
        return None
    ranks = spec.tensor_parallel * spec.data_parallel
    given: Any = spec.engine_kwargs.get("eplb_config") or {}
    settings: dict[str, Any] = json.loads(given) if isinstance(given, str) else dict(given)
    balanced = bool(spec.engine_kwargs.get("enable_eplb")) and spec.expert_parallel
    redundant = int(settings.get("num_redundant_experts", 0)) if balanced else 0
    slots = model.experts + redundant
    memory = memory_of(
        model, spec.tensor_parallel, spec.pipeline_parallel, spec.data_parallel, redundant, spec.slots, spec.context
    )
    return {
        "model": model.name,
        "layers": model.moe_layers,
        "experts": model.experts,
        "top_k": model.top_k,
        "ranks": ranks,
        "redundant": redundant,
        "slots_per_rank": slots / ranks if spec.expert_parallel else None,
        "divides": not spec.expert_parallel or slots % ranks == 0,
        "memory_gb": round(memory.total, 1),
        "experts_gb": round(memory.experts, 1),
        "memory": str(memory),
    }


def _model(name: str) -> MoeModel | None:
    """Return the numbers of a folder, or of a published model by the end of its name on the hub."""
    ends = name.rstrip("/").rpartition("/")[2].lower()
    published = next((known for known in CONFIGS if ends.startswith(known.lower())), None)
    try:
        return read_model(name)
    except BadInput:
        return None if published is None else read_model(published)


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return the figures as lines of text."""
    lines = [
        f"  experts  {found['layers']} layers of {found['experts']} (top {found['top_k']}) on {found['ranks']} ranks, "
        f"{found['redundant']} redundant"
    ]
    if found["slots_per_rank"] is not None:
        lines[0] += f": {found['slots_per_rank']:g} slots a rank"
    if not found["divides"]:
        lines.append("           these don't divide by ranks: set num_redundant_experts in engine_kwargs.eplb_config")
    lines.append(f"           about {found['memory_gb']} GB a GPU at full concurrency ({found['memory']})")
    return lines
