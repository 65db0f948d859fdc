"""Weighted maps: replicas of an expert on several nodes, and the share of a node's tokens that each gets.

Every expert has a home node (``partition``). The other slots of a node hold local copies, chosen for the tokens that
start there; what has no local copy goes to its home. A linear program then says how far tokens take the nearest one:
the fullest GPU against tokens that leave their node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from cluster.moe.packing import balanced
from cluster.moe.partition import Rule, Tokens, refine

Loads = NDArray[np.float64]
Map = NDArray[np.int64]
SWAPS = 30
HOMES = 3
"""How often homes are looked for."""
ROUNDS = 6
"""How many prices are tried at most."""
PATIENCE = 4096
"""Nodes x experts x rounds at most: where there are many of both, fewer prices are tried."""
EVEN = 1.01
"""Once the fullest node has no more than this many times the mean load, no other prices are tried."""


def local_copies(tokens: Tokens, home: Map, node: int, prices: Loads, room: int) -> Map:
    """Return the experts that a node holds: those whose home it is, and copies that keep its own tokens there.

    A token leaves for a node as long as one of its experts is only there, so copies are worth something together. They
    are taken one by one, credited with what they would finish, then exchanged while that helps. A way to another node
    costs its price.
    """
    here = home == node
    pins = tokens.pins(home, len(prices))
    pins[:, node] = 0.0
    experts = np.arange(len(home))
    held = here.copy()
    for _ in range(room - int(here.sum())):
        credit = np.divide(1.0, np.square(pins), out=np.zeros_like(pins), where=pins > 0)
        worth = tokens.counted(credit)[experts, home] * prices[home]
        worth[held] = -1.0
        _hold(tokens, pins, home, held, int(worth.argmax()))
    for _ in range(SWAPS):
        before = float((pins > 0).sum(axis=0) @ prices)
        lost = tokens.counted(pins == 0.0)[experts, home] * prices[home]
        lost[~held | here] = np.inf
        if not np.isfinite(lost).any():
            break
        out = int(lost.argmin())
        _drop(tokens, pins, home, held, out)
        worth = tokens.counted(pins == 1.0)[experts, home] * prices[home]
        worth[held] = -1.0
        worth[out] = -1.0
        best = int(worth.argmax())
        _hold(tokens, pins, home, held, best)
        if float((pins > 0).sum(axis=0) @ prices) >= before:
            _drop(tokens, pins, home, held, best)
            _hold(tokens, pins, home, held, out)
            break
    return np.flatnonzero(held)


def _hold(tokens: Tokens, pins: NDArray[np.float32], home: Map, held: NDArray[np.bool_], expert: int) -> None:
    held[expert] = True
    pins[tokens.having(expert), home[expert]] -= 1.0


def _drop(tokens: Tokens, pins: NDArray[np.float32], home: Map, held: NDArray[np.bool_], expert: int) -> None:
    held[expert] = False
    pins[tokens.having(expert), home[expert]] += 1.0


def near(tokens: Tokens, loads: Loads, rule: Rule, home: Map, gpus: int, slots: int, spare: int = 0) -> tuple[Map, Map]:
    """Return the expert of each slot [slots], and the home of each expert.

    A node's slots hold homes, local copies, and ``spare`` more for balance inside it. Where its guests, tokens that
    start elsewhere, make a node the fullest, the way there becomes dearer, so that others copy more of its experts; and
    homes are found again for what guests there are.

    Args:
        loads: [blocks, experts].
        rule: the one that ``home`` was found with.
    """
    nodes, total = rule.nodes, loads.sum(axis=0)
    room = slots // nodes - spare
    best: tuple[float, Map, NDArray[np.bool_], Loads] | None = None
    effort = max(1, min(HOMES * ROUNDS, PATIENCE // (nodes * len(home))))
    homes = max(1, effort // ROUNDS)
    for again in range(homes):
        prices = np.ones(nodes)
        for _ in range(min(effort, ROUNDS)):
            has = np.zeros((nodes, len(home)), np.bool_)
            for node in range(nodes):
                has[node, local_copies(tokens, home, node, prices, room)] = True
            weights = has * (total / nodes)
            np.add.at(weights, (home, np.arange(len(home))), (~has).sum(axis=0) * total / nodes)
            full = weights.sum(axis=1) / total.sum() * nodes
            if best is None or full.max() < best[0]:
                best = float(full.max()), home, has, weights
            if full.max() < EVEN:
                break
            prices *= np.square(full)
        assert best is not None
        if best[0] < EVEN or again == homes - 1:
            break
        lacking = 1.0 + (~best[2]).sum(axis=0)
        again_rule = Rule(loads * lacking / (1 + nodes), nodes, rule.room, rule.tolerance, rule.worth)
        home = refine(tokens, again_rule, best[1])
    assert best is not None
    _, home, has, weights = best
    placed: list[Map] = []
    for node in range(nodes):
        mine = np.flatnonzero(has[node])
        placed.append(mine[balanced(weights[node, mine], gpus // nodes, slots // nodes)])
    return np.concatenate(placed), home


def shares(loads: Loads, placed: Map, home: Map, nodes: int, gpus: int, distance: float) -> NDArray[np.float64]:
    """Return the share of each expert's tokens from each node that goes to each slot, [nodes, slots].

    Args:
        loads: [experts], tokens; they start on all nodes alike.
        placed: the expert of each slot.
        home: the node where tokens without a local replica should go.
        distance: how much a token's way to another node costs, in tokens on the fullest GPU.
    """
    slots, experts = len(placed), len(loads)
    node_of = np.arange(slots) // (slots // nodes)
    gpu_of = np.arange(slots) // (slots // gpus)
    start, slot = (index.ravel() for index in np.indices((nodes, slots)))
    expert = placed[slot]
    flow = loads[expert] / (float(loads.sum()) / gpus * nodes)
    """In means of a GPU."""
    # tokens that leave meet at the home, where others of the token go as well
    way = np.where(node_of[slot] == start, 0.0, np.where(node_of[slot] == home[expert], 1.0, 1.5))
    count = len(slot)
    column = np.arange(count)
    whole = sparse.csr_matrix((np.ones(count), (start * experts + expert, column)), (nodes * experts, count + 1))
    load = sparse.csr_matrix((flow, (gpu_of[slot], column)), (gpus, count))
    below = sparse.hstack([load, -np.ones((gpus, 1))]).tocsr()
    """The last variable is the fullest GPU's load."""
    found = linprog(
        np.append(way * flow * distance, 1.0),
        A_ub=below,
        b_ub=np.zeros(gpus),
        A_eq=whole,
        b_eq=np.ones(nodes * experts),
        bounds=(0.0, None),
        method="highs",
    )
    if found.x is None:
        raise ValueError(f"the shares can't be found: {found.message}")
    table = np.clip(found.x[:count].reshape(nodes, slots), 0.0, 1.0)
    sums = np.zeros((nodes, experts))
    np.add.at(sums, (start, expert), table.ravel())
    return table / sums[:, placed]
