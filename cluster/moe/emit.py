"""A plan as engines read it.

==========  ================================================================  ==========================================
engine      file                                                              how it is given
==========  ================================================================  ==========================================
vllm        npz, for our plugin (``cluster.engines.vllm.experts``)                 ``GRISTMILL_EXPERT_PLAN=FILE``
sglang      JSON, ``physical_to_logical_map`` [layers][slots]                 ``--init-expert-location FILE``
trtllm      YAML, ``initial_global_assignments`` layer -> slots               ``moe_config: load_balancer: FILE``
ascend      JSON, ``layer_list`` of devices with their experts                ``expert_map_path``
==========  ================================================================  ==========================================

SGLang and TensorRT-LLM number all of a model's layers, those without experts too; how many come first is the model's.
None of them takes different shares by node: weights stay in the plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from cluster.moe.placement import Placement

Target = Literal["vllm", "sglang", "trtllm", "ascend"]
SUFFIX: dict[Target, str] = {"vllm": ".npz", "sglang": ".json", "trtllm": ".yaml", "ascend": ".json"}


def emit(placement: Placement, target: Target, path: str, first_layer: int = 0) -> list[str]:
    """Write a plan for an engine; return what the engine is started with.

    Args:
        first_layer: layers without experts before the first one with them.
    """
    return _WRITERS[target](placement, path, first_layer)


def _vllm(placement: Placement, path: str, first_layer: int) -> list[str]:
    shape = placement.shape
    with open(path, "wb") as file:
        np.savez(
            file,
            physical_to_logical=placement.physical_to_logical.astype(np.int64),
            shape=np.array([placement.experts, shape.nodes, shape.gpus, shape.slots]),
        )
    redundant = shape.slots - placement.experts
    return [
        f"GRISTMILL_EXPERT_PLAN={path}",
        "--enable-expert-parallel",
        "--enable-eplb",
        f'--eplb-config={{"num_redundant_experts": {redundant}}}',
    ]


def _sglang(placement: Placement, path: str, first_layer: int) -> list[str]:
    plain = [[slot % placement.experts for slot in range(placement.shape.slots)]] * first_layer
    table = [*plain, *placement.physical_to_logical.tolist()]
    Path(path).write_text(json.dumps({"physical_to_logical_map": table}) + "\n")
    redundant = placement.shape.slots - placement.experts
    return [
        f"--init-expert-location={path}",
        f"--ep-num-redundant-experts={redundant}",
        f"--ep-size={placement.shape.gpus}",
    ]


def _trtllm(placement: Placement, path: str, first_layer: int) -> list[str]:
    document: dict[str, Any] = {
        "num_slots": placement.shape.slots,
        "initial_global_assignments": {
            first_layer + layer: row for layer, row in enumerate(placement.physical_to_logical.tolist())
        },
        "layer_updates_per_iter": 0,
    }
    Path(path).write_text(yaml.safe_dump(document, default_flow_style=None, sort_keys=False, width=10_000))
    return [f"moe_config: {{load_balancer: {path}}}", f"moe_expert_parallel_size: {placement.shape.gpus}"]


def _ascend(placement: Placement, path: str, first_layer: int) -> list[str]:
    gpus = placement.shape.gpus
    layers = [
        {
            "layer_id": layer,
            "device_count": gpus,
            "device_list": [
                {"device_id": gpu, "device_expert": mine}
                for gpu, mine in enumerate(np.array(row).reshape(gpus, -1).tolist())
            ],
        }
        for layer, row in enumerate(placement.physical_to_logical)
    ]
    Path(path).write_text(json.dumps({"moe_layer_count": len(layers), "layer_list": layers}) + "\n")
    return [f'--additional-config={{"eplb_config": {{"expert_map_path": "{path}"}}}}', "--enable-expert-parallel"]


_WRITERS: dict[Target, Callable[[Placement, str, int], list[str]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "trtllm": _trtllm,
    "ascend": _ascend,
}
