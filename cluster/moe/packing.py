"""Balance: how many replicas each expert of a layer gets, and which GPU each replica goes to.

Longest processing time first (Graham 1969), then swaps between the fullest GPU and the others while they help. The
number of replicas is searched too: the greedy choice is the best for the largest replica, not for the fullest GPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Loads = NDArray[np.float64]
Map = NDArray[np.int64]
ROUNDS = 400
"""Swaps of one layer, at most."""
TRIES = 40
"""Other numbers of replicas that are tried, at most."""


def greedy_replicas(weights: Loads, slots: int) -> Map:
    """Return the replicas of each expert [experts]: the expert with the most load a replica gets the next one."""
    replicas = np.ones(len(weights), np.int64)
    for _ in range(slots - len(weights)):
        replicas[(weights / replicas).argmax()] += 1
    return replicas


def longest_first(each: Loads, gpus: int) -> Map:
    """Return the items in the order of the GPUs' slots: the heaviest first, to the least loaded GPU with room."""
    size = len(each) // gpus
    loads = np.zeros(gpus)
    items: list[list[int]] = [[] for _ in range(gpus)]
    for item in np.argsort(-each, kind="stable"):
        gpu = int(loads.argmin())
        items[gpu].append(int(item))
        loads[gpu] = np.inf if len(items[gpu]) == size else loads[gpu] + each[item]
    return np.concatenate([np.array(mine, np.int64) for mine in items])


def swap(each: Loads, placed: Map, gpus: int) -> Map:
    """Return a placement improved by swaps of one slot of the fullest GPU with one of another, while they help."""
    size = len(placed) // gpus
    placed = placed.copy()
    weights = each[placed].reshape(gpus, size)
    loads = weights.sum(axis=1)
    for _ in range(ROUNDS):
        full = int(loads.argmax())
        # [own slot, other GPU, its slot]: what the fullest GPU would lose
        moved = weights[full][:, None, None] - weights[None]
        after = np.maximum(loads[full] - moved, loads[None, :, None] + moved)
        after[:, full] = np.inf
        after[moved <= 0] = np.inf
        best = int(after.argmin())
        if after.flat[best] >= loads[full] * (1.0 - 1e-9):
            break
        own, other, theirs = np.unravel_index(best, after.shape)
        delta = float(moved[own, other, theirs])
        a, b = full * size + int(own), int(other) * size + int(theirs)
        placed[a], placed[b] = placed[b], placed[a]
        weights[full, own], weights[other, theirs] = weights[other, theirs], weights[full, own]
        loads[full] -= delta
        loads[other] += delta
    return placed


def balanced(weights: Loads, gpus: int, slots: int, tries: int = TRIES) -> Map:
    """Return the expert of each slot [slots] of one layer, so that the fullest GPU has as little load as we can find.

    Args:
        weights: [experts], any load.
        tries: other numbers of replicas to look at.
    """
    replicas = greedy_replicas(weights, slots)
    best, height = _packed(weights, replicas, gpus)
    least = float(weights.sum()) / gpus
    tabu: set[tuple[int, int]] = set()
    for _ in range(tries):
        if height <= least * (1.0 + 1e-4):
            break
        more, less = _trade(weights, replicas, best, gpus, tabu)
        if more < 0:
            break
        tabu.add((more, less))
        other = replicas.copy()
        other[more] += 1
        other[less] -= 1
        placed, found = _packed(weights, other, gpus)
        if found < height * (1.0 - 1e-9):
            best, height, replicas = placed, found, other
            tabu.clear()
    return best


def _trade(weights: Loads, replicas: Map, placed: Map, gpus: int, tabu: set[tuple[int, int]]) -> tuple[int, int]:
    """Return which expert should have a replica more and which one less, (-1, -1) where nothing is left to try.

    One of the fullest GPU gets it from one whose replicas would be light all the same.
    """
    each = weights / replicas
    loads = each[placed].reshape(gpus, -1).sum(axis=1)
    full = placed.reshape(gpus, -1)[loads.argmax()]
    spare = np.where(replicas > 1, weights / np.maximum(replicas - 1, 1), np.inf)
    for more in full[np.argsort(-each[full])]:
        for less in np.argsort(spare, kind="stable")[:4]:
            if less != more and np.isfinite(spare[less]) and (int(more), int(less)) not in tabu:
                return int(more), int(less)
    return -1, -1


def _packed(weights: Loads, replicas: Map, gpus: int) -> tuple[Map, float]:
    expert_of = np.repeat(np.arange(len(weights)), replicas)
    each = (weights / replicas)[expert_of]
    order = swap(each, longest_first(each, gpus), gpus)
    return expert_of[order], float(each[order].reshape(gpus, -1).sum(axis=1).max())
