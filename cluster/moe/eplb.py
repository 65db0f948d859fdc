"""EPLB, the expert-parallelism load balancer that engines bring (DeepSeek-AI 2025), from its description.

*Replicate* gives each further slot to the expert with the most load per replica; *pack* puts the replicas, the heaviest
first, on the least loaded GPU that has a slot free. The global policy does this over all GPUs; the hierarchical one
first packs groups of experts onto nodes, then replicates inside each node. Planned against, and among our candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Loads = NDArray[np.float64]
Map = NDArray[np.int64]


def pack(weights: Loads, packs: int) -> tuple[Map, Map]:
    """Spread items over packs of equal size, the heaviest first, each to the least loaded pack with room.

    Args:
        weights: [rows, items]; items are a multiple of packs.

    Returns:
        The pack of each item, and its place in the pack, both [rows, items].
    """
    rows, items = weights.shape
    size = items // packs
    pack_of = np.empty((rows, items), np.int64)
    place_of = np.empty((rows, items), np.int64)
    order = np.argsort(-weights, axis=1, kind="stable")
    row = np.arange(rows)
    loads, filled = np.zeros((rows, packs)), np.zeros((rows, packs), np.int64)
    for rank in range(items):
        item = order[:, rank]
        chosen = np.where(filled < size, loads, np.inf).argmin(axis=1)
        pack_of[row, item], place_of[row, item] = chosen, filled[row, chosen]
        loads[row, chosen] += weights[row, item]
        filled[row, chosen] += 1
    return pack_of, place_of


def replicate(weights: Loads, slots: int) -> tuple[Map, Map]:
    """Give each slot beyond one per expert to the expert with the most load per replica.

    Returns:
        The expert of each slot [rows, slots], and the replicas of each expert [rows, experts].
    """
    rows, experts = weights.shape
    expert_of = np.tile(np.arange(slots), (rows, 1))
    replicas = np.ones((rows, experts), np.int64)
    row = np.arange(rows)
    for slot in range(experts, slots):
        chosen = (weights / replicas).argmax(axis=1)
        expert_of[:, slot] = chosen
        replicas[row, chosen] += 1
    return expert_of, replicas


def eplb(weights: Loads, nodes: int, gpus: int, slots: int, groups: int = 1) -> Map:
    """Return EPLB's map [layers, slots]: hierarchical where groups divide by nodes, global otherwise.

    Args:
        weights: [layers, experts], tokens or any other load.
        slots: of all GPUs together; a GPU has ``slots // gpus`` neighbours among them.
    """
    if groups % nodes or nodes == 1:
        return _placed(*_replicated(weights, gpus, slots))
    layers, experts = weights.shape
    size = experts // groups
    of_groups = weights.reshape(layers, groups, size).sum(axis=2)
    node_of, place_of = pack(of_groups, nodes)
    first = (node_of * (groups // nodes) + place_of) * size
    local = (first[:, :, None] + np.arange(size)).reshape(layers, experts)
    """Where each expert is among those of all nodes."""
    expert_at = np.argsort(local, axis=1)
    inside = np.take_along_axis(weights, expert_at, axis=1).reshape(layers * nodes, experts // nodes)
    placed = _placed(*_replicated(inside, gpus // nodes, slots // nodes))
    placed = placed.reshape(layers, nodes, slots // nodes) + (np.arange(nodes) * (experts // nodes))[:, None]
    return np.take_along_axis(expert_at, placed.reshape(layers, slots), axis=1)


def linear(layers: int, experts: int, slots: int) -> Map:
    """Return the map that engines start with: experts in order, then again from the first."""
    return np.tile(np.arange(slots) % experts, (layers, 1))


def _replicated(weights: Loads, gpus: int, slots: int) -> tuple[Map, Map, Map]:
    expert_of, replicas = replicate(weights, slots)
    each = np.take_along_axis(weights / replicas, expert_of, axis=1)
    return expert_of, *pack(each, gpus)


def _placed(expert_of: Map, gpu_of: Map, place_of: Map) -> Map:
    """Return the experts in the order of the GPUs' slots."""
    slots = expert_of.shape[1]
    size = slots // (int(gpu_of.max()) + 1)
    placed = np.empty_like(expert_of)
    np.put_along_axis(placed, gpu_of * size + place_of, expert_of, axis=1)
    return placed
