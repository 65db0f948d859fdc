"""A planned layout on a cluster of four simulated nodes with eight GPUs each, and what is left when one goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import remove_placement_group

from cluster.moe.layout import layouts
from cluster.moe.models import read_model
from cluster.ray.topology import live_cluster, replan, seat
from schemas.errors import BadInput
from tests.commands import as_json

pytestmark = pytest.mark.ray

FIGURES = {"gpu": "H100", "price_per_gpu_hour": 2.0}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(4):
                made.add_node(num_cpus=1, num_gpus=8)
            made.wait_for_nodes()
            ray.init(address=made.address, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_ranks_of_a_node_stay_together_and_a_lost_node_means_a_new_plan(cluster: Cluster) -> None:
    model = read_model("DeepSeek-V3")
    known = live_cluster(**FIGURES)
    assert (known.nodes, known.gpus_per_node, known.memory_gb) == (4, 8, 80)
    best = layouts(model, known, 16, 4096).fitting[0]
    assert best.gpus == 32
    [seats] = seat(best, known)
    for node in range(4):
        assert len({seats.node_of(rank) for rank in range(8 * node, 8 * node + 8)}) == 1
    assert len(set(seats.nodes)) == 4
    with pytest.raises(BadInput, match="room for 0 of 1 replicas of 32 GPUs; the cluster has 0 GPUs free"):
        seat(best, known, timeout=1.0)
    remove_placement_group(seats.group)

    small = read_model("Qwen3-30B-A3B")
    pairs = next(one for one in layouts(small, known, 16, 4096).fitting if one.gpus == 4)
    placed = seat(pairs, known)
    assert len(placed) == 8 and all(len(one.nodes) == 1 for one in placed)
    for one in placed:
        remove_placement_group(one.group)

    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    until = time.monotonic() + 300
    while live_cluster(**FIGURES).nodes == 4 and time.monotonic() < until:
        time.sleep(0.2)
    left = live_cluster(**FIGURES)
    assert left.nodes == 3
    asked = ("layout", "DeepSeek-V3", "--cluster", f"ray:{cluster.address}", "--gpu", "H100")
    shown = as_json(*asked, "--concurrency", "16", cwd=Path.cwd())
    assert shown["cluster"]["nodes"] == 3 and shown["cluster"]["gpu"] == "H100"
    again = replan(model, 16, 4096, **FIGURES)
    assert again.gpus * again.replicas <= 24
    [seats] = seat(again, left)
    assert len(set(seats.nodes)) == 3
    with pytest.raises(BadInput, match="Kimi-K2 doesn't fit on 3 nodes of 8 GPUs"):
        replan(read_model("Kimi-K2"), 64, 32768, **FIGURES)
