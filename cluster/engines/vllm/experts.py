"""A plugin of vLLM that gives its load balancer our plan, and takes the counts of tokens per expert out.

vLLM can't load a map of experts. It has a policy, though, that is handed the counts of all layers and returns the map;
as ``vllm.general_plugins`` this module is loaded in every process of vLLM, and puts ours in the default one's place:

    GRISTMILL_EXPERT_PLAN=plan.npz GRISTMILL_EXPERT_COUNTS=counts/ vllm serve ... --enable-expert-parallel --enable-eplb

Several plans, one for each class of jobs (``a.npz:b.npz``), take turns: each time vLLM looks at its balance, the one is
followed that is best for what went through since. That is for jobs whose classes come one after the other
(``run.order=grouped``); classes that alternate need one plan.

Without these variables nothing is changed. A plan for another model or number of slots or ranks isn't followed: vLLM's
own policy answers, and a warning says why. The interface is that of vLLM 0.32 and 0.33.
"""

# vLLM and torch are only in engines' environments, and only partly typed.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingTypeArgument=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import inspect
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.moe.placement import fullest

PLAN = "GRISTMILL_EXPERT_PLAN"
COUNTS = "GRISTMILL_EXPERT_COUNTS"
PARAMETERS = ("weight", "num_replicas", "num_groups", "num_nodes", "num_ranks", "old_global_expert_indices")
"""Of ``rebalance_experts``."""

Plan = dict[str, NDArray[np.int64]]

logger = logging.getLogger("gristmill.experts")


def register() -> None:
    """Put the planned policy in the place of vLLM's default one, where a plan or a folder for counts is given.

    Raises:
        RuntimeError: this vLLM's load balancer has another interface, or the plan can't be read.
    """
    if not (os.environ.get(PLAN) or os.environ.get(COUNTS)):
        return
    try:
        import vllm
        from vllm.distributed.eplb import policy
    except ImportError as error:
        raise RuntimeError(f"{PLAN}: vLLM's load balancer isn't where 0.32 and 0.33 have it: {error}") from error
    known = getattr(policy, "EPLB_POLICIES", None)
    default = getattr(policy, "DefaultEplbPolicy", None)
    found = () if default is None else tuple(inspect.signature(default.rebalance_experts).parameters)
    if default is None or not isinstance(known, dict) or known.keys() != {"default"} or found != PARAMETERS:
        raise RuntimeError(
            f"{PLAN}: vLLM {vllm.__version__} has another load balancer than 0.32 and 0.33, for which this plugin is "
            f"written: policies {sorted(known or ())}, parameters {list(found)}. Unset {PLAN} and {COUNTS} to go "
            "without it"
        )
    known["default"] = policy_of(default)


def policy_of(default: type) -> type:
    """Return a policy that follows the plan and writes counts out, and otherwise is ``default``."""
    plans = [_read(path) for path in os.environ.get(PLAN, "").split(os.pathsep) if path]
    folder = os.environ.get(COUNTS)

    class PlannedEplbPolicy(default):
        @classmethod
        def rebalance_experts(
            cls,
            weight: Any,
            num_replicas: int,
            num_groups: int,
            num_nodes: int,
            num_ranks: int,
            old_global_expert_indices: Any = None,
        ) -> Any:
            import torch

            if folder:
                write_counts(weight.float().cpu().numpy(), folder)
            faults = [_misfit(plan, tuple(weight.shape), num_replicas, num_ranks) for plan in plans]
            fitting = [plan for plan, fault in zip(plans, faults, strict=True) if fault is None]
            if fitting:
                chosen = fitting[0] if len(fitting) == 1 else _best(fitting, weight.float().cpu().numpy(), num_ranks)
                return torch.from_numpy(chosen["physical_to_logical"].copy())
            if plans:
                logger.warning("the expert plan isn't followed: %s", "; ".join(fault for fault in faults if fault))
            return super().rebalance_experts(
                weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
            )

    return PlannedEplbPolicy


def _best(plans: list[Plan], counts: NDArray[Any], ranks: int) -> Plan:
    """Return the plan under which the fullest GPUs have least to do by the newest counts [layers, experts].

    All ranks are given the same counts, so all choose the same; before there are any, the first.
    """

    def height(plan: Plan) -> float:
        return sum(fullest(load, row, ranks) for load, row in zip(counts, plan["physical_to_logical"], strict=True))

    return min(plans, key=height)


def _read(path: str) -> Plan:
    try:
        loaded = np.load(path)
        return {"physical_to_logical": loaded["physical_to_logical"].astype(np.int64), "shape": loaded["shape"]}
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(
            f"{PLAN}={path} can't be read: {error}. Write it with: gristmill moe export plan.json --to vllm"
        ) from error


def _misfit(plan: Plan, counts: tuple[int, ...], slots: int, ranks: int) -> str | None:
    """Return why a plan is for something else; its ``shape`` is experts, nodes, gpus, slots."""
    layers, own = plan["physical_to_logical"].shape
    experts, _, gpus, _ = plan["shape"].tolist()
    if (layers, experts) != counts:
        return f"it has {layers} layers of {experts} experts, the model {counts[0]} of {counts[1]}"
    if own != slots:
        return f"it has {own} slots, the engine {slots}: set num_redundant_experts to {own - experts}"
    return None if gpus == ranks else f"it is for {gpus} GPUs, the engine has {ranks}"


def write_counts(counts: NDArray[Any], folder: str) -> None:
    """Write all-reduced counts [layers, experts] to a file of their own, once for all ranks; profiling has none."""
    if not counts.any() or _rank() != 0:
        return
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    name = f"counts-{time.time_ns()}.npz"
    with open(target / f".{name}", "wb") as file:
        np.savez(file, counts=counts.astype(np.float64))
    os.replace(target / f".{name}", target / name)


def _rank() -> int:
    import torch.distributed

    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
