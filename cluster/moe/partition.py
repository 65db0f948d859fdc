"""Which node each expert of a layer lives on, so that tokens meet their experts on few nodes.

A token is a hyperedge over its experts; what a partition costs is the number of nodes its tokens touch, beyond one.
Fiduccia and Mattheyses (1982), with swaps and moves: in a pass every expert changes its node at most once, always the
best change next, even one that costs; the pass is cut back to its best moment. Nodes keep their load within a share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Loads = NDArray[np.float64]
Map = NDArray[np.int64]
PASS = 24
"""Changes of one pass, at most."""
LOOKED_AT = 24
"""Changes whose gain is computed exactly, the most promising first."""


class Tokens:
    """The tokens of one layer: which experts each goes to, and which tokens go to each expert."""

    def __init__(self, routed: NDArray[np.integer], experts: int) -> None:
        """Take expert ids [tokens, k], different within a token."""
        tokens, k = routed.shape
        self.number = tokens
        pointers = np.arange(0, tokens * k + 1, k)
        ones = np.ones(tokens * k, np.float32)
        self.matrix = sparse.csr_matrix((ones, routed.ravel().astype(np.int32), pointers), shape=(tokens, experts))
        self.by_expert = self.matrix.T.tocsr()
        self.whether = np.zeros((experts, tokens), np.bool_)
        self.whether[routed.ravel(), np.repeat(np.arange(tokens), k)] = True

    def having(self, expert: int) -> NDArray[np.int32]:
        """Return the tokens that go to an expert."""
        return self.by_expert.indices[self.by_expert.indptr[expert] : self.by_expert.indptr[expert + 1]]

    def counted(self, where: NDArray[Any]) -> NDArray[np.float32]:
        """Return for each expert how many of its tokens fulfil something, [experts, ...], given for each token."""
        return np.asarray(self.by_expert @ where.astype(np.float32))

    def pins(self, node_of: Map, nodes: int) -> NDArray[np.float32]:
        """Return how many experts of each token are on each node, [tokens, nodes]."""
        where = np.zeros((len(node_of), nodes), np.float32)
        where[np.arange(len(node_of)), node_of] = 1.0
        return np.asarray(self.matrix @ where)


def touched(tokens: Tokens, node_of: Map, nodes: int) -> float:
    """Return the mean number of nodes that a token's experts are on."""
    return float((tokens.pins(node_of, nodes) > 0).sum(axis=1).mean())


def partition(tokens: Tokens, rule: Rule, starts: int = 4, seed: int = 0) -> Map:
    """Return the node of each expert [experts].

    Args:
        starts: beginnings to improve; the best result is taken.
    """
    draws = np.random.default_rng(seed)
    nodes, total = rule.nodes, rule.loads
    best, cost = np.zeros(len(total), np.int64), np.inf
    for start in range(starts):
        begun = (
            _grown(tokens, total, nodes, rule.room, draws) if start or starts == 1 else _dealt(total, nodes, rule.room)
        )
        node_of = refine(tokens, rule, begun)
        found = touched(tokens, node_of, nodes) + rule.unsteady(node_of)
        if found < cost:
            best, cost = node_of, found
    return best


class Rule:
    """What a partition must keep to, and what unsteady loads cost.

    Args:
        loads: [blocks, experts], of several parts of the data: what a node has in each of them is to be even.
        room: experts that fit on a node.
        tolerance: how far above the mean a node's load may be, over all blocks.
        steadiness: nodes touched, in the mean over tokens, that are worth a mean squared deviation of 1 of the nodes'
            loads in the blocks from their mean.
    """

    def __init__(self, loads: Loads, nodes: int, room: int, tolerance: float, steadiness: float) -> None:
        self.nodes, self.room, self.tolerance, self.worth = nodes, room, tolerance, steadiness
        self.loads = loads.sum(axis=0)
        self.most = float(self.loads.sum()) / nodes * (1.0 + tolerance)
        means = np.maximum(loads.sum(axis=1, keepdims=True) / nodes, 1e-12)
        """Of a node in each block."""
        self.steadiness = steadiness / (nodes * len(loads))
        self.blocks = (loads / means).T
        """[experts, blocks], in means of a node."""
        self.squares = np.square(self.blocks).sum(axis=1)

    def of_nodes(self, node_of: Map) -> Loads:
        """Return the nodes' loads in the blocks, [nodes, blocks]."""
        full = np.zeros((self.nodes, self.blocks.shape[1]))
        np.add.at(full, node_of, self.blocks)
        return full

    def unsteady(self, node_of: Map) -> float:
        """Return what a partition's unsteady loads cost."""
        return float(self.steadiness * np.square(self.of_nodes(node_of) - 1.0).sum())


def refine(tokens: Tokens, rule: Rule, node_of: Map) -> Map:
    """Return a partition improved by passes, until one doesn't help."""
    while True:
        after, gain = _pass(tokens, rule, node_of)
        if gain <= 0:
            return node_of
        node_of = after


def _dealt(loads: Loads, nodes: int, room: int) -> Map:
    """Deal experts out, the heaviest first, each to the least loaded node with room."""
    node_of = np.empty(len(loads), np.int64)
    full, filled = np.zeros(nodes), np.zeros(nodes, np.int64)
    for expert in np.argsort(-loads, kind="stable"):
        node = int(np.where(filled < room, full, np.inf).argmin())
        node_of[expert] = node
        full[node] += loads[expert]
        filled[node] += 1
    return node_of


def _grown(tokens: Tokens, loads: Loads, nodes: int, room: int, draws: np.random.Generator) -> Map:
    """Grow nodes from drawn experts: the least loaded one takes the expert that goes with its own most often."""
    together = np.asarray((tokens.by_expert @ tokens.matrix).todense(), np.float64)
    together /= np.sqrt(np.outer(loads, loads)) + 1e-9
    node_of = np.full(len(loads), -1)
    full, filled = np.zeros(nodes), np.zeros(nodes, np.int64)
    for expert in draws.choice(len(loads), nodes, replace=False):
        node = int(filled.argmin())
        node_of[expert], full[node], filled[node] = node, loads[expert], 1
    while (node_of < 0).any():
        node = int(np.where(filled < room, full, np.inf).argmin())
        affinity = together[:, node_of == node].mean(axis=1)
        expert = int(np.where(node_of < 0, affinity, -np.inf).argmax())
        node_of[expert] = node
        full[node] += loads[expert]
        filled[node] += 1
    return node_of


def _pass(tokens: Tokens, rule: Rule, start: Map) -> tuple[Map, float]:
    """Return the best moment of one pass, and what it gained, in tokens times nodes."""
    state = _State(tokens, rule, start.copy())
    best, best_gain, gain = start, 0.0, 0.0
    for _ in range(PASS):
        found = state.best_change()
        if found is None:
            break
        won, change = found
        state.change(change)
        gain += won
        if gain > best_gain + 0.5:
            best, best_gain = state.node_of.copy(), gain
    return best, best_gain


class _State:
    """A partition while a pass changes it."""

    def __init__(self, tokens: Tokens, rule: Rule, node_of: Map) -> None:
        self.tokens, self.rule, self.node_of = tokens, rule, node_of
        self.pins = tokens.pins(node_of, rule.nodes)
        self.full = np.bincount(node_of, rule.loads, rule.nodes)
        self.blocks = rule.of_nodes(node_of)
        self.filled = np.bincount(node_of, minlength=rule.nodes)
        self.free = np.ones(len(rule.loads), np.bool_)
        self.alone: NDArray[np.float32] = tokens.counted(self.pins == 1.0)
        """Tokens of each expert that have one expert on each node, [experts, nodes]."""
        self.absent: NDArray[np.float32] = tokens.counted(self.pins == 0.0)
        """Tokens of each expert that have no expert on each node, [experts, nodes]."""

    def change(self, moves: list[tuple[int, int]]) -> None:
        """Put experts on other nodes, for the rest of the pass."""
        rows = np.unique(np.concatenate([self.tokens.having(expert) for expert, _ in moves]))
        before = self.pins[rows]
        for expert, node in moves:
            mine, old = self.tokens.having(expert), self.node_of[expert]
            self.pins[mine, old] -= 1.0
            self.pins[mine, node] += 1.0
            for table, amount in ((self.full, self.rule.loads), (self.blocks, self.rule.blocks)):
                table[old] -= amount[expert]
                table[node] += amount[expert]
            self.filled[old] -= 1
            self.filled[node] += 1
            self.node_of[expert] = node
            self.free[expert] = False
        after, touched_here = self.pins[rows], self.tokens.matrix[rows].T
        self.alone += touched_here @ ((after == 1.0).astype(np.float32) - (before == 1.0))
        self.absent += touched_here @ ((after == 0.0).astype(np.float32) - (before == 0.0))

    def best_change(self) -> tuple[float, list[tuple[int, int]]] | None:
        """Return the gain of the best move or swap of free experts that keeps the loads, and what moves where."""
        rule, loads = self.rule, self.rule.loads
        experts = np.arange(len(loads))
        worth = rule.steadiness * self.tokens.number
        gains = np.take_along_axis(self.alone, self.node_of.reshape(-1, 1), axis=1) - self.absent
        meets = rule.blocks @ self.blocks.T
        here = np.take_along_axis(meets, self.node_of.reshape(-1, 1), axis=1)
        drift = meets - here + rule.squares.reshape(-1, 1)
        gains = gains - 2.0 * worth * drift
        # what neither node may exceed: the limit, or what the fuller of them has now
        allowed = np.maximum(rule.most, np.maximum.outer(self.full, self.full))
        moves = np.where(self.free[:, None], gains, -np.inf)
        moves[experts, self.node_of] = -np.inf
        moves[:, self.filled >= rule.room] = -np.inf
        moves[self.filled[self.node_of] < 2] = -np.inf  # a node isn't left empty
        moves[self.full + loads[:, None] > allowed[self.node_of]] = -np.inf
        both = gains[:, self.node_of]
        both = both + both.T + 4.0 * worth * (rule.blocks @ rule.blocks.T)
        after = self.full[self.node_of][:, None] + loads[None, :] - loads[:, None]
        fits = np.maximum(after, after.T) <= allowed[np.ix_(self.node_of, self.node_of)]
        fits &= (self.node_of[:, None] < self.node_of) & self.free[:, None] & self.free
        both[~fits] = -np.inf
        best = int(moves.argmax())
        won, change = float(moves.flat[best]), [(best // rule.nodes, best % rule.nodes)]
        partner = both.argmax(axis=1)
        promise = both[experts, partner]
        for one in np.argsort(-promise)[:LOOKED_AT]:
            if promise[one] <= won:
                break
            other = int(partner[one])
            exact = float(promise[one]) - self._shared(int(one), other)
            if exact > won:
                won, change = exact, [(int(one), int(self.node_of[other])), (other, int(self.node_of[one]))]
        return None if won == -np.inf else (won, change)

    def _shared(self, one: int, other: int) -> float:
        """Return what the gains of two moves count too much if they are a swap: tokens that have both don't change."""
        both = np.flatnonzero(self.tokens.whether[one] & self.tokens.whether[other])
        return float((self.pins[both][:, [self.node_of[one], self.node_of[other]]] == 1.0).sum())
