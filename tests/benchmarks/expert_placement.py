"""Expert placement against EPLB: planned on the first half of each sequence set, measured on the second.

python -m tests.benchmarks.expert_placement --data routing.npz            # the three sizes, three objectives
python -m tests.benchmarks.expert_placement                               # balance alone, on synthetic load
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from cluster.moe.eplb import eplb
from cluster.moe.measure import DEFAULT, balancedness, measure
from cluster.moe.packing import balanced, greedy_replicas, longest_first, swap
from cluster.moe.place import Objective, place
from cluster.moe.placement import Placement, Shape
from cluster.moe.routing import counts_of, read_traces

SHAPES = (Shape(2, 16, 96), Shape(4, 16, 96), Shape(4, 32, 128))
OBJECTIVES: tuple[Objective, ...] = ("throughput", "balance", "traffic")
SYNTHETIC = ((4, 32, 288), (8, 64, 320), (18, 144, 288), (18, 144, 432), (40, 320, 640))
LAYERS, EXPERTS = 58, 256


def on_routing(path: str) -> None:
    traces, experts = read_traces(path)
    first, second = zip(*(trace.halves() for trace in traces), strict=True)
    judged = np.concatenate([trace.experts for trace in second])
    counts = counts_of(np.concatenate([trace.experts for trace in first]), experts)
    for shape in SHAPES:
        base = Placement(shape, experts, eplb(counts, 1, shape.gpus, shape.slots))
        theirs = _figures(judged, base)
        print(f"{shape}: EPLB global balancedness {theirs[0]:.4f}, remote {theirs[1]:.3f}, {theirs[2]:.3f} us a token")
        for objective in OBJECTIVES:
            began = time.perf_counter()
            ours = _figures(judged, place(first, experts, shape, objective))
            seconds = time.perf_counter() - began
            print(
                f"  {objective}: balancedness {ours[0]:.4f}, remote {ours[1]:.3f} ({ours[1] / theirs[1] - 1.0:+.1%}), "
                f"{ours[2]:.3f} us a token ({ours[2] / theirs[2] - 1.0:+.1%}); planned in {seconds:.0f} s"
            )


def _figures(judged: NDArray[np.integer], placement: Placement) -> tuple[float, float, float]:
    found = measure(judged, placement)
    seconds = sum(one.seconds(DEFAULT) for one in found)
    return (
        float(np.mean([one.balancedness for one in found])),
        float(np.mean([one.remote for one in found])),
        1e6 * seconds,
    )


def on_synthetic_load(seeds: int) -> None:
    for nodes, gpus, slots in SYNTHETIC:
        rows: list[tuple[float, float, float]] = []
        began = 0.0
        for seed in range(seeds):
            weights = np.random.default_rng(seed).lognormal(0.0, 0.7, (LAYERS, EXPERTS))
            table = eplb(weights, 1, gpus, slots)
            plain = np.stack([_plain(counts, gpus, slots) for counts in weights])
            start = time.perf_counter()
            ours = np.stack([balanced(counts, gpus, slots) for counts in weights])
            began += time.perf_counter() - start
            rows.append((_even(weights, table, gpus), _even(weights, plain, gpus), _even(weights, ours, gpus)))
        figures = np.array(rows)
        means = figures.mean(axis=0)
        gain = figures[:, 2] - figures[:, 1]
        print(
            f"{gpus} GPUs, {slots} slots, {nodes} nodes, {seeds} seeds: EPLB global {means[0]:.4f}, LPT + swaps "
            f"{means[1]:.4f}, ours {means[2]:.4f} (above LPT + swaps by {gain.mean():.4f}, at least {gain.min():.4f}); "
            f"{began / seeds:.1f} s for {LAYERS} layers"
        )


def _plain(counts: NDArray[np.float64], gpus: int, slots: int) -> NDArray[np.int64]:
    replicas = greedy_replicas(counts, slots)
    expert_of = np.repeat(np.arange(len(counts)), replicas)
    each = (counts / replicas)[expert_of]
    return expert_of[swap(each, longest_first(each, gpus), gpus)]


def _even(weights: NDArray[np.float64], table: NDArray[np.int64], gpus: int) -> float:
    found = []
    for counts, row in zip(weights, table, strict=True):
        each = counts / np.bincount(row, minlength=len(counts))
        found.append(balancedness(each[row].reshape(gpus, -1).sum(axis=1)))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="routing: FILE.npz[:ARRAY,...]")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    if options.data:
        on_routing(options.data)
    else:
        on_synthetic_load(options.seeds)


if __name__ == "__main__":
    main()
