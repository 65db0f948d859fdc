"""Nodes of a Ray cluster as placement sees them: how much they have, what they are labelled, how large a GPU is.

Ray counts GPUs but doesn't know their memory. It follows from the node's accelerator type, by the sizes that the makers
publish, unless the label ``gristmill/gpu-memory`` says it (in GB; it wins, and is the way for GPUs not listed here).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from schemas.errors import BadInput

MEMORY_LABEL = "gristmill/gpu-memory"
TYPE_LABEL = "ray.io/accelerator-type"
ID_LABEL = "ray.io/node-id"
TYPE_RESOURCE = "accelerator_type:"

GPU_MEMORY = {
    "K80": 12, "P4": 8, "P100": 12, "V100": 16, "T4": 16, "A10G": 24, "L4": 24, "L40S": 48, "RTX-PRO-6000": 96,
    "A100": 40, "A100-40G": 40, "A100-80G": 80, "H20": 96, "H100": 80, "H200": 141, "B200": 180, "B300": 270,
    "GB200": 186, "GB300": 270, "Intel-GPU-Max-1100": 48, "Intel-GPU-Max-1550": 128, "AMD-Instinct-MI100": 32,
    "AMD-Instinct-MI210": 64, "AMD-Instinct-MI250X": 64, "AMD-Instinct-MI250X-MI250": 64, "AMD-Instinct-MI300A": 128,
    "AMD-Instinct-MI300X-OAM": 192, "AMD-Instinct-MI300X-HF": 192, "AMD-Instinct-MI308X": 192,
    "AMD-Instinct-MI325X-OAM": 256, "AMD-Instinct-MI350X-OAM": 288, "AMD-Instinct-MI355X-OAM": 288,
}  # fmt: skip
"""Ray's name of an accelerator (``ray.util.accelerators``) -> GB of one that Ray counts as a GPU. Where it was sold in
several sizes, the smallest: a label says that it is more."""

_VALUE = r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)"
_SELECTOR = re.compile(rf"(!?)(?:in\(({_VALUE}(?:, ?{_VALUE})*)\)|({_VALUE}))", re.ASCII)
_KEY = re.compile(rf"(?:[A-Za-z0-9.-]{{1,253}}/)?{_VALUE}", re.ASCII)


@dataclass(frozen=True)
class Node:
    """What a node has in all, whoever uses it."""

    id: str
    name: str
    """Its address, as users know it."""
    cpus: float = 0.0
    gpus: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    types: tuple[str, ...] = ()
    """Accelerator types, as Ray's resources and labels name them."""

    @property
    def gpu_memory(self) -> float | None:
        """GB of each of its GPUs; None where nobody says."""
        try:
            return float(self.labels[MEMORY_LABEL])
        except (KeyError, ValueError):
            return max((float(GPU_MEMORY[name]) for name in self.types if name in GPU_MEMORY), default=None)

    def satisfies(self, labels: Mapping[str, str]) -> bool:
        """Whether Ray's label selectors choose it."""
        return all(_selects(selector, self.labels.get(key)) for key, selector in labels.items())

    def __str__(self) -> str:
        return f"{self.name}: {self.equipment}"

    @property
    def equipment(self) -> str:
        """What it has, in words."""
        memory = self.gpu_memory
        size = f" ({memory:g} GB)" if memory is not None else " (of unknown memory)"
        kind = self.types[0] if self.types else "GPU"
        own = {key: value for key, value in self.labels.items() if key not in (ID_LABEL, TYPE_LABEL, MEMORY_LABEL)}
        labels = "".join(f", {key}={value}" for key, value in sorted(own.items()))
        return (f"{self.gpus:g} x {kind}{size}" if self.gpus else "no GPU") + f", {self.cpus:g} CPUs{labels}"


def live_nodes() -> list[Node]:
    """Return the nodes of the cluster that are alive."""
    return sorted((_node(entry) for entry in ray.nodes() if entry["Alive"]), key=lambda node: (node.name, node.id))


def _node(entry: Mapping[str, Any]) -> Node:
    resources: Mapping[str, float] = entry["Resources"]
    labels: dict[str, str] = dict(entry.get("Labels") or {})
    types = [name.removeprefix(TYPE_RESOURCE) for name in resources if name.startswith(TYPE_RESOURCE)]
    if (label := labels.get(TYPE_LABEL)) and label not in types:
        types.append(label)
    return Node(
        id=entry["NodeID"],
        name=entry["NodeManagerAddress"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        labels=labels,
        types=tuple(sorted(types)),
    )


def check_selectors(labels: Mapping[str, str]) -> None:
    """Refuse what Ray would refuse.

    Raises:
        BadInput: a label selector is malformed.
    """
    for key, selector in labels.items():
        if not _KEY.fullmatch(key) or (selector and not _SELECTOR.fullmatch(selector)):
            raise BadInput(
                f"engine.labels: '{key}': '{selector}' is no label selector of Ray's: value, !value, in(a, b) or "
                "!in(a, b), of letters, digits, '.', '-' and '_'"
            )


def _selects(selector: str, value: str | None) -> bool:
    found = _SELECTOR.fullmatch(selector)
    if found is None:
        return value == selector  # the empty one
    negated, several, single = found.groups()
    wanted = re.split(", ?", several) if several else [single]
    return (value in wanted) != bool(negated)
