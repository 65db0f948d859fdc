"""Models in numbers, layouts that fit, plans as engines read them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from cluster.moe.emit import emit
from cluster.moe.known import CONFIGS
from cluster.moe.layout import RUNTIME_GB, USABLE, layouts
from cluster.moe.models import of_config, read_model
from cluster.moe.placement import Placement, Shape
from cluster.moe.topology import GPUS, Cluster, read_cluster
from schemas.errors import BadInput

# name: published billions of parameters, and active ones (gpt-oss counts no embeddings among these), GB of a slot
PUBLISHED = {
    "Mixtral-8x7B": (46.7, 12.9, 11.3),
    "Mixtral-8x22B": (141, 39, None),
    "Qwen1.5-MoE-A2.7B": (14.3, 2.7, None),
    "Qwen2-57B-A14B": (57.4, 14.2, None),
    "Qwen3-30B-A3B": (30.5, 3.3, 0.45),
    "Qwen3-235B-A22B-FP8": (235, 22, 1.77),
    "DeepSeek-V2": (236, 21, None),
    "DeepSeek-V2-Lite": (15.7, 2.66, None),
    "DeepSeek-V3": (671, 37, 2.55),
    "Kimi-K2": (1026, 32.6, 2.64),
    "gpt-oss-120b": (116.8, 5.7, 0.48),
    "gpt-oss-20b": (20.9, 4.2, None),
    "OLMoE-1B-7B": (6.92, 1.28, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    model = read_model(name)
    total, active, slot = PUBLISHED[name]
    assert model.parameters / 1e9 == pytest.approx(total, rel=0.005)
    assert model.active / 1e9 == pytest.approx(active, rel=0.03)
    if slot is not None:
        assert model.slot_bytes / 1e9 == pytest.approx(slot, rel=0.02)


def test_models_are_read_from_their_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["DeepSeek-V3"]))
    assert read_model(str(tmp_path)).parameters == read_model("deepseek-v3").parameters
    with pytest.raises(BadInput, match="did you mean DeepSeek-V3"):
        read_model("DeepSek-V3")
    with pytest.raises(BadInput, match="has no n_routed_experts or num_experts"):
        of_config("dense", {"hidden_size": 8, "num_hidden_layers": 2})


def test_a_cluster_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("nodes: 2\ngpu: H100\nprice_per_gpu_hour: 2.5\n")
    assert read_cluster(str(path)).memory_gb == 80
    path.write_text("nodes: 2\ngpu: X1\n")
    with pytest.raises(BadInput, match="gpu 'X1' isn't known"):
        read_cluster(str(path))
    path.write_text("nodes: 2\ngpu: H100\nnode: 3\n")
    with pytest.raises(BadInput, match="node: Extra inputs are not permitted"):
        read_cluster(str(path))


def test_layouts_of_random_clusters_fit_by_an_independent_count() -> None:
    draws = random.Random(0)
    shown = 0
    for _ in range(100):
        name = draws.choice(list(CONFIGS))
        gpu = draws.choice(list(GPUS))
        cluster = Cluster(
            nodes=draws.choice([1, 2, 3, 4, 8, 18]), gpus_per_node=draws.choice([4, 8]), **{"gpu": gpu, **GPUS[gpu]}
        )  # type: ignore[arg-type]
        concurrency, context = draws.choice([1, 16, 128]), draws.choice([1024, 8192, 32768])
        model = read_model(name)
        found = layouts(model, cluster, concurrency, context)
        assert found.fitting or found.rejected
        for layout in found.fitting:
            shown += 1
            ranks = layout.tp * layout.dp
            assert layout.replicas * ranks * layout.pp + layout.idle == cluster.gpus
            assert (model.experts + layout.redundant) % ranks == 0 and layout.redundant <= 1023
            assert ranks % cluster.gpus_per_node == 0 or cluster.gpus_per_node % ranks == 0
            assert layout.tp <= cluster.gpus_per_node and model.heads % layout.tp == 0
            # what the whole replica holds, cut evenly, is a lower bound of its fullest GPU
            whole = model.parameters * model.expert_bits / 8 if model.expert_bits == model.other_bits else 0.0
            kv = concurrency * layout.dp * context * model.kv_bytes
            held = (whole + kv) / (ranks * layout.pp) / 1e9 + RUNTIME_GB
            assert held <= layout.memory.total + 1e-6 <= cluster.memory_gb * USABLE + 1e-6
        if not found.fitting:
            assert "too little memory" in found.rejected
            assert "too many" in found.rejected["too little memory"][1]
    assert shown > 500


def test_a_larger_cluster_holds_more_and_redundancy_costs_memory() -> None:
    model = read_model("DeepSeek-V3")
    found = layouts(model, Cluster.model_validate({"nodes": 18, "gpu": "H100", "price_per_gpu_hour": 2.0}))
    best = found.fitting[0]
    assert best.dollars > 0 and best.tokens_per_second > 0
    assert "--enable-expert-parallel" in best.flags
    by = {(one.tp, one.pp, one.dp, one.redundant): one for one in found.fitting}
    assert by[1, 1, 144, 176].memory.experts > by[1, 1, 144, 32].memory.experts
    assert not layouts(model, Cluster.model_validate({"nodes": 1, "gpu": "L40S"})).fitting


PLAN = Placement(Shape(1, 2, 4), 3, np.array([[0, 1, 2, 0], [2, 1, 0, 1]]))


def test_engines_get_their_own_formats(tmp_path: Path) -> None:
    path = str(tmp_path / "sglang.json")
    start = emit(PLAN, "sglang", path, first_layer=1)
    table = json.loads(Path(path).read_text())["physical_to_logical_map"]
    assert table == [[0, 1, 2, 0], [0, 1, 2, 0], [2, 1, 0, 1]]
    assert f"--init-expert-location={path}" in start and "--ep-num-redundant-experts=1" in start
    path = str(tmp_path / "trt.yaml")
    emit(PLAN, "trtllm", path, first_layer=3)
    document = yaml.safe_load(Path(path).read_text())
    assert document["num_slots"] == 4
    assert document["initial_global_assignments"] == {3: [0, 1, 2, 0], 4: [2, 1, 0, 1]}
    path = str(tmp_path / "ascend.json")
    emit(PLAN, "ascend", path)
    ascend = json.loads(Path(path).read_text())
    assert ascend["moe_layer_count"] == 2
    assert ascend["layer_list"][1]["device_list"] == [
        {"device_id": 0, "device_expert": [2, 1]},
        {"device_id": 1, "device_expert": [0, 1]},
    ]
    path = str(tmp_path / "vllm.npz")
    start = emit(PLAN, "vllm", path)
    loaded = np.load(path)
    assert loaded["physical_to_logical"].tolist() == PLAN.physical_to_logical.tolist()
    assert loaded["shape"].tolist() == [3, 1, 2, 4]
    assert '--eplb-config={"num_redundant_experts": 1}' in start
