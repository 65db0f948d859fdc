"""Choosing a placement: several candidates for each layer, judged on data that they weren't planned on.

EPLB's own plans are among the candidates, so that on that data the choice is never worse than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cluster.moe.eplb import eplb
from cluster.moe.locality import near, shares
from cluster.moe.measure import DEFAULT, Costs, Measured, measure, measure_layer
from cluster.moe.packing import balanced
from cluster.moe.partition import Rule, Tokens, partition
from cluster.moe.placement import Placement, Shape, fullest, uniform
from cluster.moe.routing import Trace, counts_of
from schemas.errors import BadInput

Objective = Literal["throughput", "balance", "traffic"]
Risk = Literal["mean", "max", "cvar"]
Loads = NDArray[np.float64]
Map = NDArray[np.int64]

BLOCKS = 8
"""Parts of the data in which a node's load is to be even."""
TOLERANCE = 0.01
SLACK = 0.01
"""Balancedness that a plan may lose against EPLB's on the judged data, in the mean over layers."""
WORTH_MOVING = 0.03
"""A running plan is kept unless a new one is modelled to be faster by this share."""
MANY = 128
"""Experts of a layer above which fewer candidates are tried."""
BUDGET = 1 << 20
"""Tokens times experts that a layer is partitioned with, at most."""


@dataclass(frozen=True)
class Planned:
    """A candidate for one layer."""

    row: Map
    shares: Loads | None = None
    """[nodes, slots]; None: every replica gets the same."""

    def each(self, shape: Shape) -> Loads:
        """Return the shares, [nodes, slots]."""
        return uniform(self.row, shape.nodes) if self.shares is None else self.shares


@dataclass(frozen=True)
class Layer:
    """What is known of one layer to plan with.

    Attributes:
        loads: tokens of each expert in several parts of the data, [blocks, experts].
        tokens: the tokens themselves, where a trace is there.
    """

    loads: Loads
    shape: Shape
    groups: int
    costs: Costs
    tokens: Tokens | None = None
    _homes: dict[float, tuple[Rule, Map]] = field(default_factory=dict[float, tuple[Rule, Map]])

    @property
    def counts(self) -> Loads:
        return self.loads.sum(axis=0)

    def homes(self, steadiness: float) -> tuple[Rule, Map]:
        """Return the node that each expert lives on, and the rule it was found with; candidates share them."""
        if steadiness not in self._homes:
            assert self.tokens is not None
            shape = self.shape
            rule = Rule(self.loads, shape.nodes, shape.slots // shape.nodes, TOLERANCE, steadiness)
            starts = 4 if self.loads.shape[1] <= MANY else 1
            self._homes[steadiness] = rule, partition(self.tokens, rule, starts)
        return self._homes[steadiness]


Candidate = Callable[[Layer], Planned]


def _eplb(groups: bool) -> Candidate:
    def plan(layer: Layer) -> Planned:
        shape = layer.shape
        number = layer.groups if groups else 1
        return Planned(eplb(layer.counts[None], shape.nodes if groups else 1, shape.gpus, shape.slots, number)[0])

    return plan


def _balanced(layer: Layer) -> Planned:
    return Planned(balanced(layer.counts, layer.shape.gpus, layer.shape.slots))


def _joint(steadiness: float) -> Candidate:
    """Experts that tokens meet together share a node, with all their replicas."""

    def plan(layer: Layer) -> Planned:
        shape, counts = layer.shape, layer.counts
        home = layer.homes(steadiness)[1]
        room, gpus = shape.slots // shape.nodes, shape.gpus // shape.nodes
        nodes = [np.flatnonzero(home == node) for node in range(shape.nodes)]
        return Planned(np.concatenate([mine[balanced(counts[mine], gpus, room)] for mine in nodes]))

    return plan


def _near(spare: float, steadiness: float = 16.0) -> Candidate:
    """Copies on the nodes where tokens start, and shares that prefer them; ``spare``: share of a node's further slots
    that only balance it."""

    def plan(layer: Layer) -> Planned:
        shape, counts = layer.shape, layer.counts
        rule, home = layer.homes(steadiness)
        assert layer.tokens is not None
        further = shape.slots // shape.nodes - int(np.bincount(home, minlength=shape.nodes).max())
        row, home = near(layer.tokens, layer.loads, rule, home, shape.gpus, shape.slots, int(spare * further))
        distance = layer.costs.traffic / layer.costs.compute / shape.nodes
        return Planned(row, shares(counts, row, home, shape.nodes, shape.gpus, min(distance, DISTANCE)))

    return plan


DISTANCE = 0.02
"""A way to another node, in tokens on the fullest GPU, as the shares are planned: balance comes first."""


def candidates(
    experts: int, groups: int, nodes: int, traced: bool = False, weights: bool = False
) -> dict[str, Candidate]:
    """Return the candidates by name, EPLB's first."""
    found: dict[str, Candidate] = {"eplb-global": _eplb(groups=False)}
    if groups % nodes == 0 and groups > 1 and nodes > 1:
        found["eplb-hierarchical"] = _eplb(groups=True)
    found["balanced"] = _balanced
    if traced and nodes > 1:
        found["joint-steady"] = _joint(16.0)
        if experts <= MANY:
            found |= {"joint": _joint(4.0), "joint-steadier": _joint(64.0)}
        if weights:
            found["near"] = _near(0.2)
        if weights and experts <= MANY:
            found["near-spare"] = _near(0.35)
    return found


def place(
    traces: Sequence[Trace],
    experts: int,
    shape: Shape,
    objective: Objective = "throughput",
    *,
    weights: bool | None = None,
    groups: int = 1,
    costs: Costs = DEFAULT,
    risk: Risk = "mean",
    model: str = "",
    progress: Callable[[int, int], None] = lambda done, layers: None,
) -> Placement:
    """Plan with traces.

    Each layer's candidates are planned on two thirds of the sequences and judged on the others; what wins is planned
    again with all. Layers choose together: the mean balancedness stays within ``SLACK`` of EPLB's global plan.

    Args:
        objective: ``throughput``: the modelled time; ``traffic``: remote nodes; ``balance``: balancedness.
        weights: whether replicas may get different shares by node, which engines must support; None: for ``traffic``.
        risk: over several classes (traces): their mean, the worst, or the mean of the worse half (CVaR).
        progress: told how many layers are done.

    Raises:
        BadInput: more experts than slots.
    """
    shape.fits(experts)
    weights = objective == "traffic" if weights is None else weights
    parts = [trace.apart() for trace in traces]
    known = candidates(experts, groups, shape.nodes, True, weights)
    layers = traces[0].experts.shape[1]
    judged: list[dict[str, list[Measured]]] = []
    for number in range(layers):
        layer = _layer([plan for plan, _ in parts], number, experts, shape, groups, costs)
        tests = [test.experts[:, number] for _, test in parts]
        tests = [np.concatenate(tests)] if risk == "mean" else tests
        found = {name: candidate(layer) for name, candidate in known.items()}
        judged.append({name: _judge(tests, planned, shape, experts) for name, planned in found.items()})
        progress(number + 1, 2 * layers)
    chosen = choose(judged, objective, costs, risk)
    rows: list[Planned] = []
    for number, name in enumerate(chosen):
        rows.append(known[name](_layer(traces, number, experts, shape, groups, costs)))
        progress(layers + number + 1, 2 * layers)
    whole = np.concatenate([trace.experts for trace in traces])
    return _placement(rows, shape, experts, counts_of(whole, experts), model, objective, chosen)


def place_counts(
    counts: Loads, shape: Shape, *, groups: int = 1, model: str = "", objective: Objective = "throughput"
) -> Placement:
    """Plan with counts [layers, experts] alone: for balance, since nothing is known of what goes together.

    Raises:
        BadInput: more experts than slots, or ``traffic`` is wanted, which needs a trace.
    """
    experts = counts.shape[1]
    shape.fits(experts)
    if objective == "traffic":
        raise BadInput("objective traffic needs a trace (--trace): counts don't say which experts go together")
    known = candidates(experts, groups, shape.nodes)
    rows: list[Planned] = []
    chosen: list[str] = []
    for row in counts:
        layer = Layer(row[None], shape, groups, DEFAULT)
        found = {name: candidate(layer) for name, candidate in known.items()}
        heights = {name: fullest(row, planned.row, shape.gpus) for name, planned in found.items()}
        chosen.append(min(heights, key=heights.__getitem__))
        rows.append(found[chosen[-1]])
    return _placement(rows, shape, experts, counts, model, objective, chosen)


def choose(judged: Sequence[dict[str, list[Measured]]], objective: Objective, costs: Costs, risk: Risk) -> list[str]:
    """Return the candidate of each layer: the best by the objective, as far as all layers together keep their balance.

    Args:
        judged: for each layer its candidates' figures, one for each class.
    """
    reference = "eplb-global"
    scores = [
        {name: _score(found, layer[reference], objective, costs, risk) for name, found in layer.items()}
        for layer in judged
    ]
    even = [
        {name: float(np.mean([one.balancedness for one in found])) for name, found in layer.items()} for layer in judged
    ]
    least = float(np.mean([layer[reference] for layer in even])) - SLACK
    # what wins on one layer was lucky there: a candidate's figure is drawn half-way to what it reaches on all layers
    above = {name: float(np.mean([layer[name] - layer[reference] for layer in even])) for name in even[0]}
    even = [{name: (found + layer[reference] + above[name]) / 2.0 for name, found in layer.items()} for layer in even]
    chosen: list[str] = []
    for price in (0.0, *np.geomspace(0.05, 1000.0, 40)):
        chosen = [
            min(score, key=lambda name, score=score, balance=balance: score[name] - price * balance[name])
            for score, balance in zip(scores, even, strict=True)
        ]
        if np.mean([balance[name] for balance, name in zip(even, chosen, strict=True)]) >= least:
            break
    return chosen


def worth_moving(running: Placement, new: Placement, routed: NDArray[np.integer], costs: Costs) -> bool:
    """Return whether a new plan is modelled to be so much faster than the running one that experts should move."""
    before, after = (sum(one.seconds(costs) for one in measure(routed, plan)) for plan in (running, new))
    return after < before * (1.0 - WORTH_MOVING)


def worth_moving_by_counts(running: Placement, new: Placement, counts: Loads) -> bool:
    """The same where only counts [layers, experts] are known: by the load of the fullest GPU of each layer."""
    before, after = (
        sum(fullest(row, slots, plan.shape.gpus) for row, slots in zip(counts, plan.physical_to_logical, strict=True))
        for plan in (running, new)
    )
    return after < before * (1.0 - WORTH_MOVING)


def _score(found: list[Measured], reference: list[Measured], objective: Objective, costs: Costs, risk: Risk) -> float:
    """Return what is to be small, as a share of EPLB's."""
    if objective == "balance":
        values, base = [1.0 / one.balancedness for one in found], [1.0 / one.balancedness for one in reference]
    elif objective == "traffic":
        values, base = [one.remote for one in found], [one.remote for one in reference]
    else:
        values, base = [one.seconds(costs) for one in found], [one.seconds(costs) for one in reference]
    return _risk(values, risk) / max(_risk(base, risk), 1e-30)


def _risk(values: list[float], risk: Risk) -> float:
    worst = sorted(values, reverse=True)
    if risk == "max":
        return worst[0]
    return float(np.mean(worst if risk == "mean" else worst[: max(1, (len(worst) + 1) // 2)]))


def _judge(tests: Sequence[NDArray[np.integer]], planned: Planned, shape: Shape, experts: int) -> list[Measured]:
    each = planned.each(shape)
    return [measure_layer(test, planned.row, each, shape, experts) for test in tests]


def _layer(traces: Sequence[Trace], number: int, experts: int, shape: Shape, groups: int, costs: Costs) -> Layer:
    """Gather one layer's tokens, classes mixed as they are, thinned out where there are more than a plan needs."""
    ids = [trace.experts[:, number] for trace in traces]
    total = sum(len(part) for part in ids)
    thin = max(1, -(-total * experts // BUDGET))
    blocks = [np.array_split(part, BLOCKS) for part in ids]
    mixed = [np.concatenate(block) for block in zip(*blocks, strict=True)]
    loads = np.array([np.bincount(block.ravel(), minlength=experts) for block in mixed], np.float64)
    # an expert that was never seen isn't free
    loads += 0.1 * max(float(loads.mean()), 1e-9)
    return Layer(loads, shape, groups, costs, Tokens(np.concatenate(ids)[::thin], experts))


def _placement(
    rows: list[Planned], shape: Shape, experts: int, counts: Loads, model: str, objective: str, chosen: list[str]
) -> Placement:
    table = np.stack([planned.row for planned in rows])
    weights = None
    if any(planned.shares is not None for planned in rows):
        weights = np.stack([planned.each(shape) for planned in rows])
    return Placement(shape, experts, table, weights, model, counts, {"objective": objective, "chosen": chosen})
