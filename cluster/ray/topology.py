"""The live Ray cluster in numbers, and planned layouts on it: which node holds which ranks.

A replica larger than a node gets a bundle for each of its nodes, so that ranks 8i..8i+7 are on one (where nodes have
eight GPUs); a smaller one lies within a node.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Any

import ray
from pydantic import ValidationError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from cluster.moe.layout import Layout, layouts
from cluster.moe.models import MoeModel
from cluster.moe.topology import Cluster
from schemas.errors import BadInput


def live_cluster(**figures: Any) -> Cluster:
    """Return the Ray cluster that this process is connected to: nodes with GPUs, as many of each as the smallest has.

    Args:
        figures: what Ray doesn't know: ``price_per_gpu_hour``, ``network_gb_s``, and ``gpu`` where nodes have no label.

    Raises:
        BadInput: no node has a GPU, or its kind isn't known and ``figures`` don't tell it.
    """
    found = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if not found:
        raise BadInput("no node of the Ray cluster has a GPU")
    kinds = {str((node.get("Labels") or {}).get("ray.io/accelerator-type", "")) for node in found} - {""}
    gpu = {"gpu": min(kinds)} if kinds else {}
    smallest = min(int(node["Resources"]["GPU"]) for node in found)
    try:
        return Cluster.model_validate({**gpu, **figures, "nodes": len(found), "gpus_per_node": smallest})
    except ValidationError as error:
        told = error.errors()[0]
        where = ".".join(str(part) for part in told["loc"])
        raise BadInput(f"the Ray cluster's GPUs: {where} {told['msg'].removeprefix('Value error, ')}") from error


def cluster_at(address: str, **figures: Any) -> Cluster:
    """Return the numbers of the Ray cluster at an address (``auto``: the one of this machine), without staying in it.

    Raises:
        BadInput: no cluster is there, or ``live_cluster`` can't tell its numbers.
    """
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself waits for minutes
            socket.create_connection((host, int(port)), timeout=10.0).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"no Ray cluster at '{address}': {error}") from error
    try:
        return live_cluster(**figures)
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Seats:
    """A replica's place: rank r has bundle ``r // ranks_per_bundle`` of the group."""

    group: PlacementGroup
    ranks_per_bundle: int
    nodes: tuple[str, ...]
    """The id of each bundle's node."""

    def node_of(self, rank: int) -> str:
        """Return the id of the node that a rank is on."""
        return self.nodes[rank // self.ranks_per_bundle]


def seat(layout: Layout, cluster: Cluster, timeout: float = 60.0) -> list[Seats]:
    """Reserve the GPUs of all replicas of a layout.

    Raises:
        BadInput: the cluster hasn't room for all of them within ``timeout`` seconds; nothing stays reserved.
    """
    size = min(layout.gpus, cluster.gpus_per_node)
    bundles = [{"GPU": float(size)} for _ in range(-(-layout.gpus // size))]
    strategy = "STRICT_PACK" if len(bundles) == 1 else "STRICT_SPREAD"
    groups = [placement_group(bundles, strategy=strategy) for _ in range(layout.replicas)]
    ready, late = ray.wait([group.ready() for group in groups], num_returns=len(groups), timeout=timeout)
    if late:
        for group in groups:
            remove_placement_group(group)
        raise BadInput(
            f"there is room for {len(ready)} of {layout.replicas} replicas of {layout.gpus} GPUs; the cluster has "
            f"{ray.available_resources().get('GPU', 0):g} GPUs free. Plan again for what is there"
        )
    return [Seats(group, size, _nodes_of(group)) for group in groups]


def _nodes_of(group: PlacementGroup) -> tuple[str, ...]:
    table: dict[str, Any] = ray.util.placement_group_table(group)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue]
    places: dict[int, str] = table["bundles_to_node_id"]
    return tuple(places[bundle] for bundle in range(len(places)))


def replan(model: MoeModel, concurrency: int, context: int, **figures: Any) -> Layout:
    """Return the best layout for what is left of the cluster, once a node is gone or has come.

    Raises:
        BadInput: nothing fits any more; the nearest miss is named.
    """
    left = live_cluster(**figures)
    found = layouts(model, left, concurrency, context)
    if not found.fitting:
        _, example = found.rejected.get("too little memory", (0, "no way divides"))
        raise BadInput(f"{model.name} doesn't fit on {left.nodes} nodes of {left.gpus_per_node} GPUs: {example}")
    return found.fitting[0]
