"""Layouts: how a mixture-of-experts model is cut over a cluster, which ways fit, and what each may be worth.

Experts are parallel over all ranks of a replica (expert parallelism: TP x DP), everything else over TP, layers over
PP. A way is dropped where its parts don't divide or don't fit the memory; what is left is ranked by an estimate of
decoding speed: weights and cache read, products computed, tokens carried between GPUs and nodes. The estimate compares
ways, it doesn't predict an engine.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from cluster.moe.models import EFFICIENCY, MoeModel
from cluster.moe.topology import Cluster
from schemas.errors import BadInput

USABLE = 0.92
"""Of a GPU's memory: what an engine takes."""
RUNTIME_GB = 2.5
"""Libraries, graphs and communication buffers of a rank."""
BATCHED_TOKENS = 8192
"""Tokens of one forward pass, at most, while prompts are computed."""
LATENCY = 12e-6
"""Seconds of one collective, beside its bytes."""
MOST_REDUNDANT = 1023
"""Redundant slots that EPLB can count."""
EVEN, UNEVEN = 0.92, 0.72
"""Balancedness of the GPUs with and without redundant slots, as measured on real routing."""


@dataclass(frozen=True)
class Memory:
    """What a GPU holds, in GB of 1e9 bytes."""

    weights: float
    experts: float
    buffer: float
    cache: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.experts + self.buffer + self.cache + self.activations + RUNTIME_GB

    def __str__(self) -> str:
        return (
            f"weights {self.weights:.1f}, experts {self.experts:.1f}, buffer {self.buffer:.1f}, cache "
            f"{self.cache:.1f}, activations {self.activations:.1f}, runtime {RUNTIME_GB:g}"
        )


@dataclass(frozen=True)
class Layout:
    """One way to serve the model.

    Attributes:
        tp, pp, dp: of one replica; its experts are spread over ``ep = tp x dp`` ranks of each stage.
        redundant: slots beyond one for each expert, of one layer.
        replicas: copies of the model.
        tokens_per_second: completion tokens of a GPU.
        dollars: of a million completion tokens; 0 where no price is known.
        idle: GPUs that no replica uses.
    """

    tp: int
    pp: int
    dp: int
    redundant: int
    replicas: int
    memory: Memory
    tokens_per_second: float = 0.0
    dollars: float = 0.0
    idle: int = 0

    @property
    def ep(self) -> int:
        return self.tp * self.dp

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def flags(self) -> list[str]:
        """What vLLM is started with, for one replica."""
        flags = [f"--tensor-parallel-size={self.tp}", f"--pipeline-parallel-size={self.pp}"]
        if self.dp > 1:
            flags.append(f"--data-parallel-size={self.dp}")
        if self.ep > 1:
            flags.append("--enable-expert-parallel")
        if self.redundant:
            flags += ["--enable-eplb", f'--eplb-config={{"num_redundant_experts": {self.redundant}}}']
        return flags


@dataclass(frozen=True)
class Layouts:
    """What fits, the best first, and why the rest doesn't: reasons with their number and an example."""

    fitting: list[Layout]
    rejected: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])


def layouts(model: MoeModel, cluster: Cluster, concurrency: int = 64, context: int = 8192) -> Layouts:
    """Return all ways to serve a model on a cluster.

    Args:
        concurrency: requests that each data-parallel rank must have room for.
        context: tokens of each of them, prompt and completion.

    Raises:
        BadInput: nothing can be served: no request, or no token.
    """
    if concurrency < 1 or context < 1:
        raise BadInput("concurrency and context must be at least 1")
    fitting: list[Layout] = []
    reasons: Counter[str] = Counter()
    examples: dict[str, tuple[float, str]] = {}
    """The nearest miss of each reason."""
    for tp, pp, dp in _ways(cluster):
        for redundant in _redundant(model, tp * dp):
            gpus = tp * pp * dp
            replicas = cluster.gpus // gpus
            name, least = f"TP {tp} x PP {pp} x DP {dp}, {redundant} redundant", 0.0
            fault = _fault(model, cluster, tp, pp, dp, redundant)
            memory = memory_of(model, tp, pp, dp, redundant, concurrency, context)
            if fault is None and memory.total > cluster.memory_gb * USABLE:
                fault = "too little memory"
                least = memory.total - cluster.memory_gb * USABLE
                name += f": {memory.total:.1f} GB of {cluster.memory_gb * USABLE:.1f} ({memory}), {least:.1f} too many"
            if fault is not None:
                reasons[fault] += 1
                if fault not in examples or least < examples[fault][0]:
                    examples[fault] = least, name
                continue
            speed = _speed(model, cluster, tp, pp, dp, redundant, concurrency, context)
            used = replicas * gpus
            dollars = cluster.price_per_gpu_hour / (speed * 3600.0) * 1e6 * cluster.gpus / used
            idle = cluster.gpus - used
            fitting.append(Layout(tp, pp, dp, redundant, replicas, memory, speed, dollars, idle))
    fitting.sort(key=lambda layout: (-layout.tokens_per_second * layout.gpus * layout.replicas, layout.gpus, layout.tp))
    return Layouts(fitting, {reason: (number, examples[reason][1]) for reason, number in reasons.most_common()})


def memory_of(model: MoeModel, tp: int, pp: int, dp: int, redundant: int, concurrency: int, context: int) -> Memory:
    """Return what the fullest GPU holds; the layers of the fullest pipeline stage are rounded up."""
    giga = 1e9
    part = -(-model.layers // pp) / model.layers
    moe_layers = min(model.moe_layers, -(-model.layers // pp))
    slots = (model.experts + redundant) / (tp * dp)
    one_layer = slots * model.expert_bytes
    cut = min(tp, model.kv_heads)
    hidden = BATCHED_TOKENS * model.hidden * 2.0
    routed = BATCHED_TOKENS * model.top_k * model.hidden * 2.0 / tp
    return Memory(
        weights=(model.other_bytes * part / tp) / giga,
        experts=one_layer * moe_layers / giga,
        buffer=(one_layer if redundant else 0.0) / giga,
        cache=concurrency * context * model.kv_bytes * part / cut / giga,
        activations=(4.0 * hidden + 2.0 * routed) / giga,
    )


def _ways(cluster: Cluster) -> list[tuple[int, int, int]]:
    """Return TP, PP, DP of one replica: powers of two inside a node, stages and ranks up to the whole cluster."""
    tps = [tp for tp in (1, 2, 4, 8, 16) if tp <= cluster.gpus_per_node]
    pps = [pp for pp in (1, 2, 3, 4, 6, 8, 16) if pp <= cluster.gpus]
    found: list[tuple[int, int, int]] = []
    for tp, pp in itertools.product(tps, pps):
        dps = {1 << power for power in range(12)} | {cluster.gpus // (tp * pp), cluster.gpus // (2 * tp * pp)}
        dps |= {nodes * cluster.gpus_per_node // (tp * pp) for nodes in range(1, cluster.nodes + 1)}
        found += [(tp, pp, dp) for dp in sorted(dps) if dp >= 1 and tp * pp * dp <= cluster.gpus]
    return found


def _redundant(model: MoeModel, ep: int) -> list[int]:
    """Return numbers of redundant slots that make slots divide by ranks: the fewest, and up to two more a rank."""
    least = -model.experts % ep
    return [least] if ep == 1 else [least + more * ep for more in range(3)]


def _fault(model: MoeModel, cluster: Cluster, tp: int, pp: int, dp: int, redundant: int) -> str | None:
    """Return why a way can't be, memory apart."""
    ranks, size = tp * dp, cluster.gpus_per_node
    if model.heads % tp:
        return f"{model.heads} attention heads don't divide by TP {tp}"
    if pp > model.layers:
        return f"{model.layers} layers can't be cut into {pp} stages"
    if ranks > size and ranks % size:
        return f"expert-parallel ranks would leave a node half used ({size} GPUs a node)"
    if ranks <= size and size % ranks:
        return f"a replica's ranks would lie across two nodes ({size} GPUs a node)"
    if redundant > MOST_REDUNDANT:
        return f"more than {MOST_REDUNDANT} redundant slots"
    if ranks > model.experts + redundant:
        return f"more ranks than slots for {model.experts} experts"
    return None


def _speed(
    model: MoeModel, cluster: Cluster, tp: int, pp: int, dp: int, redundant: int, concurrency: int, context: int
) -> float:
    """Return completion tokens a second and GPU of decoding at full concurrency."""
    ranks, tokens = tp * dp, concurrency * dp
    even = EVEN if redundant else UNEVEN
    if ranks == 1:
        even = 1.0
    slots = (model.experts + redundant) / ranks
    hit = 1.0 - (1.0 - model.top_k / model.experts) ** tokens
    cut = min(tp, model.kv_heads)
    read = model.other_bytes / tp + slots * hit * model.slot_bytes
    read += concurrency * (context / 2.0) * model.kv_bytes / cut
    reading = read / (cluster.memory_tb_s * 1e12)
    outside = 2.0 * (model.active - model.moe_layers * model.top_k * model.expert) * concurrency / tp
    inside = 2.0 * model.moe_layers * model.top_k * model.expert * tokens / ranks / even
    computing = (outside + inside) / (cluster.tflops * 1e12 * EFFICIENCY)
    step = max(reading, computing) + _carrying(model, cluster, tp, dp, concurrency)
    # a stage works on one of pp groups of requests at a time: each rank's concurrency is spread over them
    return concurrency * dp / step / (tp * dp * pp) * (1.0 if pp == 1 else 0.9)


def _carrying(model: MoeModel, cluster: Cluster, tp: int, dp: int, concurrency: int) -> float:
    """Return the seconds of a step that tokens are on their way, in all layers."""
    link, network = cluster.nvlink_gb_s * 1e9, cluster.network_gb_s * 1e9
    total = 0.0
    if tp > 1:
        values = concurrency * model.hidden * 2.0
        total += 2.0 * model.layers * (2.0 * (tp - 1) / tp * values / link + LATENCY)
    if dp > 1:
        nodes = max(1, tp * dp // cluster.gpus_per_node)
        tokens = concurrency * dp / nodes
        remote = min(model.top_k, nodes) * (nodes - 1) / nodes
        across = tokens * remote * model.hidden * 3.0 / network if nodes > 1 else 0.0
        inside = concurrency * min(model.top_k, cluster.gpus_per_node) * model.hidden * 3.0 / link
        total += model.moe_layers * (max(across, inside) + 2.0 * LATENCY)
    return total
