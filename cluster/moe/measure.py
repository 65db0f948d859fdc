"""What a placement is worth on a trace: balance, traffic between nodes, and the time that follows from both.

A token's home node is a random one; its experts' outputs return there after every layer. Where an expert has several
replicas, each is taken with its share: expectations are exact, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.moe.order import interleaved
from cluster.moe.placement import Placement, Shape
from cluster.moe.routing import Ids, Trace

Loads = NDArray[np.float64]
CHUNK = 16_384
"""Tokens whose probabilities are in memory at once."""


@dataclass(frozen=True)
class Costs:
    """What work and ways take, in seconds.

    Attributes:
        compute: of one token in one expert, on one GPU.
        traffic: of one token to or from one node, at a node's whole bandwidth.
    """

    compute: float
    traffic: float


DEFAULT = Costs(compute=88e6 / 400e12, traffic=7168 * 3 / 400e9)
"""DeepSeek-V3's experts (hidden 7168, intermediate 2048; sent as fp8, returned as bf16) at 400 Tflop/s a GPU, with
eight 400 Gb/s ports a node."""


@dataclass(frozen=True)
class Measured:
    """A layer's figures; arrays of them are per layer.

    Attributes:
        balancedness: mean over maximum load of the GPUs.
        remote: nodes other than its own that a token's experts are on, in the mean.
        fullest: tokens of the fullest GPU, per token of the trace.
        busiest: tokens that the busiest node sends or receives, per token of the trace.
    """

    balancedness: float
    remote: float
    fullest: float
    busiest: float

    def seconds(self, costs: Costs) -> float:
        """Return the modelled time of the layer, per token of the trace."""
        return costs.compute * self.fullest + costs.traffic * self.busiest


def gpu_shares(row: NDArray[np.int64], shares: Loads, shape: Shape, experts: int) -> Loads:
    """Return the share of each expert's tokens that goes to each GPU, [experts, gpus]; tokens start anywhere."""
    table = np.zeros((experts, shape.gpus))
    np.add.at(table, (row, np.arange(shape.slots) // (shape.slots // shape.gpus)), shares.mean(axis=0))
    return table


def balancedness(loads: Loads) -> float:
    """Return mean over maximum of the GPUs' loads, 1 where there is none; [..., gpus] gives the mean over the rest."""
    most = loads.max(axis=-1)
    return float(np.where(most > 0, loads.mean(axis=-1) / np.where(most > 0, most, 1.0), 1.0).mean())


def measure_layer(routed: Ids, row: NDArray[np.int64], shares: Loads, shape: Shape, experts: int) -> Measured:
    """Measure one layer.

    Args:
        routed: expert ids, [tokens, k].
        row: the expert of each slot.
        shares: of each expert's tokens from each node to each slot, [nodes, slots].
    """
    counts = np.bincount(routed.ravel(), minlength=experts)
    loads = counts @ gpu_shares(row, shares, shape, experts)
    nodes = shape.nodes
    sent = np.zeros((nodes, nodes))
    uniform = bool((shares == shares[0]).all())
    for first in range(0, len(routed), CHUNK):
        some = routed[first : first + CHUNK]
        for start in range(1 if uniform else nodes):
            to = np.zeros((experts, nodes))
            np.add.at(to, (row, shape.node_of), shares[start])
            reached = (1.0 - np.prod(1.0 - np.minimum(to, 1.0)[some], axis=1)).sum(axis=0)
            if uniform:
                sent += reached
            else:
                sent[start] += reached
    sent = sent / (nodes * len(routed))
    np.fill_diagonal(sent, 0.0)
    busiest = max(sent.sum(axis=0).max(), sent.sum(axis=1).max())
    return Measured(balancedness(loads), float(sent.sum()), float(loads.max()) / len(routed), float(busiest))


def measure(routed: Ids, placement: Placement) -> list[Measured]:
    """Measure every layer on a trace [tokens, layers, k]."""
    return [
        measure_layer(routed[:, layer], row, placement.shares(layer), placement.shape, placement.experts)
        for layer, row in enumerate(placement.physical_to_logical)
    ]


def mixed(traces: Sequence[Trace]) -> Ids:
    """Return the tokens of several classes as they come where classes alternate."""
    classes = np.repeat(np.arange(len(traces)), [len(trace.experts) for trace in traces])
    return np.concatenate([trace.experts for trace in traces])[interleaved(classes)]


def step_balancedness(routed: Ids, placement: Placement, step: int) -> float:
    """Return the balancedness of steps of so many tokens, in the mean over steps and layers."""
    steps = max(1, len(routed) // step)
    found: list[float] = []
    for layer, row in enumerate(placement.physical_to_logical):
        table = gpu_shares(row, placement.shares(layer), placement.shape, placement.experts)
        ids = routed[: steps * step, layer]
        each = np.repeat(np.arange(steps), len(ids) // steps * ids.shape[1]) if len(routed) >= step else 0
        flat = ids.astype(np.int64).ravel() + each * placement.experts
        counts = np.bincount(flat, minlength=steps * placement.experts).reshape(steps, placement.experts)
        found.append(balancedness(counts @ table))
    return float(np.mean(found))
