"""Expert placement: balance, traffic, the figures of a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cluster.moe.eplb import eplb, linear, pack, replicate
from cluster.moe.locality import shares
from cluster.moe.measure import Costs, balancedness, gpu_shares, measure, measure_layer, step_balancedness
from cluster.moe.packing import balanced, greedy_replicas, longest_first, swap
from cluster.moe.partition import Rule, Tokens, partition, touched
from cluster.moe.place import place, place_counts, worth_moving
from cluster.moe.placement import Placement, Shape, read_placement
from cluster.moe.routing import Trace, counted, counts_of, read_counts, read_traces
from schemas.errors import BadInput

# 58 layers of 256 experts with log-normal load (sigma .7): nodes, GPUs, slots and what EPLB reaches
SIZES = [
    (4, 32, 288, 0.955, 0.993),
    (8, 64, 320, 0.807, 0.983),
    (18, 144, 288, 0.898, 0.898),
    (18, 144, 432, 0.947, 0.947),
    (40, 320, 640, 0.962, 0.962),
]


def loads(layers: int = 58, experts: int = 256, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).lognormal(0.0, 0.7, (layers, experts))


def even(weights: NDArray[np.float64], rows: Any, gpus: int) -> float:
    found = []
    for counts, row in zip(weights, rows, strict=True):
        each = counts / np.bincount(row, minlength=len(counts))
        found.append(balancedness(each[row].reshape(gpus, -1).sum(axis=1)))
    return float(np.mean(found))


def routed(tokens: int, layers: int, experts: int, k: int, seed: int = 0, clusters: int = 4) -> NDArray[np.int16]:
    """Return routing in which experts come in clusters: a token's experts are mostly of one."""
    draws = np.random.default_rng(seed)
    popular = draws.normal(0.0, 0.5, (layers, experts))
    cluster = draws.permuted(np.tile(np.arange(experts) % clusters, (layers, 1)), axis=1)
    own = draws.integers(0, clusters, tokens)
    scores = draws.gumbel(size=(tokens, layers, experts)) + popular + 2.5 * (cluster[None] == own[:, None, None])
    return np.argsort(-scores, axis=2)[:, :, :k].astype(np.int16)


# --- balance


@pytest.mark.parametrize(("nodes", "gpus", "slots", "hierarchical", "globally"), SIZES)
def test_eplb_reaches_its_known_figures_and_we_are_above(
    nodes: int, gpus: int, slots: int, hierarchical: float, globally: float
) -> None:
    weights = loads()
    assert even(weights, eplb(weights, nodes, gpus, slots, 8), gpus) == pytest.approx(hierarchical, abs=0.003)
    found = eplb(weights, 1, gpus, slots)
    assert even(weights, found, gpus) == pytest.approx(globally, abs=0.003)
    for counts, row in zip(weights[:6], found[:6], strict=True):
        ours = even(counts[None], [balanced(counts, gpus, slots)], gpus)
        assert ours >= even(counts[None], [row], gpus) - 1e-9
        replicas = greedy_replicas(counts, slots)
        expert = np.repeat(np.arange(256), replicas)
        each = (counts / replicas)[expert]
        plain = expert[swap(each, longest_first(each, gpus), gpus)]
        assert ours >= even(counts[None], [plain], gpus) - 1e-9


def test_packing_and_replication_by_hand() -> None:
    pack_of, place_of = pack(np.array([[5.0, 4.0, 3.0, 2.0]]), 2)
    assert pack_of.tolist() == [[0, 1, 1, 0]]
    assert place_of.tolist() == [[0, 0, 1, 1]]
    expert_of, replicas = replicate(np.array([[9.0, 4.0, 1.0]]), 6)
    assert expert_of.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert replicas.tolist() == [[3, 2, 1]]
    assert linear(2, 3, 4).tolist() == [[0, 1, 2, 0]] * 2


@given(st.integers(0, 1000), st.sampled_from([(2, 8), (4, 8), (4, 16), (8, 24)]))
@settings(max_examples=40, deadline=None)
def test_every_expert_has_a_slot_and_every_gpu_its_number(seed: int, size: tuple[int, int]) -> None:
    gpus, slots = size
    weights = loads(1, 6, seed)[0]
    row = balanced(weights, gpus, slots)
    assert len(row) == slots
    assert set(row) == set(range(6))


# --- partitions


def test_experts_that_go_together_share_a_node() -> None:
    draws = np.random.default_rng(1)
    own = draws.integers(0, 4, 2000)
    ids = np.stack([own + 4 * step for step in draws.permuted(np.tile(np.arange(4), (2000, 1)), axis=1).T[:3]], axis=1)
    tokens = Tokens(ids, 16)
    blocks = np.array([np.bincount(part.ravel(), minlength=16) for part in np.array_split(ids, 4)], np.float64)
    node_of = partition(tokens, Rule(blocks, 4, 8, 0.1, 1.0))
    assert touched(tokens, node_of, 4) == pytest.approx(1.0)
    assert len({tuple(node_of[cluster::4]) for cluster in range(4)}) == 4


@given(st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_a_partition_keeps_room_and_loads_and_never_gets_worse(seed: int) -> None:
    ids = routed(400, 1, 16, 3, seed)[:, 0]
    tokens = Tokens(ids, 16)
    blocks = np.array([np.bincount(part.ravel(), minlength=16) for part in np.array_split(ids, 4)], np.float64)
    rule = Rule(blocks, 2, 10, 0.05, 0.0)
    node_of = partition(tokens, rule, seed=seed)
    assert np.bincount(node_of, minlength=2).max() <= 10
    full = np.bincount(node_of, rule.loads, 2)
    assert full.max() <= rule.most + rule.loads.max()
    assert touched(tokens, node_of, 2) <= touched(tokens, np.arange(16) % 2, 2) + 1e-9


# --- figures


def test_expectations_are_what_drawing_gives() -> None:
    shape = Shape(2, 4, 12)
    row = np.array([0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 1, 2])
    ids = routed(3000, 1, 8, 3, seed=5)[:, 0]
    for weighted in (False, True):
        each = np.tile(1.0 / np.bincount(row)[row], (2, 1))
        if weighted:
            each = shares(
                np.bincount(ids.ravel(), minlength=8).astype(float), row, np.array([0, 0, 0, 0, 0, 1, 1, 1]), 2, 4, 0.1
            )
        found = measure_layer(ids, row, each, shape, 8)
        draws = np.random.default_rng(0)
        home = draws.integers(0, 2, len(ids))
        slots_of = [np.flatnonzero(row == expert) for expert in range(8)]
        remote, gpus = 0, np.zeros(4)
        for token, start in zip(ids, home, strict=True):
            at = [
                int(draws.choice(slots_of[e], p=each[start, slots_of[e]] / each[start, slots_of[e]].sum()))
                for e in token
            ]
            gpus += np.bincount(np.array(at) // 3, minlength=4)
            remote += len({slot // 6 for slot in at} - {start})
        assert found.remote == pytest.approx(remote / len(ids), abs=0.03)
        assert found.balancedness == pytest.approx(gpus.mean() / gpus.max(), abs=0.03)
        assert found.fullest == pytest.approx(gpus.max() / len(ids), abs=0.05)


def test_steps_are_less_even_than_the_whole() -> None:
    ids = routed(4096, 2, 16, 4)
    plan = place_counts(counts_of(ids, 16), Shape(2, 8, 24))
    whole = float(np.mean([one.balancedness for one in measure(ids, plan)]))
    assert step_balancedness(ids, plan, 4096) == pytest.approx(whole)
    assert step_balancedness(ids, plan, 128) < whole


def test_shares_take_the_near_replica_and_add_up() -> None:
    row = np.array([0, 1, 2, 3, 0, 1, 4, 5])
    counts = np.array([4.0, 4.0, 2.0, 2.0, 2.0, 2.0])
    table = shares(counts, row, np.array([0, 0, 0, 0, 1, 1]), 2, 4, 0.1)
    assert table[0, :2] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert table[1, 4:6] == pytest.approx([1.0, 1.0], abs=1e-6)
    for node in range(2):
        assert np.bincount(row, table[node]) == pytest.approx(np.ones(6))
    gpus = counts @ gpu_shares(row, table, Shape(2, 4, 8), 6)
    assert gpus == pytest.approx([4.0] * 4)


# --- the choice


@pytest.fixture(scope="module")
def trace() -> Trace:
    ids = routed(6000, 3, 32, 4, seed=3)
    return Trace("t", ids, np.full(60, 100))


@pytest.mark.parametrize("objective", ["throughput", "balance", "traffic"])
def test_plans_carry_less_between_nodes_and_keep_their_balance(trace: Trace, objective: Any) -> None:
    first, second = trace.halves()
    shape = Shape(2, 8, 48)
    costs = Costs(2e-7, 1e-7)
    plan = place([first], 32, shape, objective, costs=costs)
    base = Placement(shape, 32, eplb(counts_of(first.experts, 32), 1, 8, 48))
    ours, theirs = measure(second.experts, plan), measure(second.experts, base)
    assert sum(one.seconds(costs) for one in ours) <= sum(one.seconds(costs) for one in theirs) * 1.001
    assert np.mean([one.balancedness for one in ours]) >= np.mean([one.balancedness for one in theirs]) - 0.02
    remote = np.mean([one.remote for one in ours]) / np.mean([one.remote for one in theirs])
    assert remote < {"throughput": 0.9, "balance": 1.01, "traffic": 0.7}[objective]
    assert (plan.weights is not None) == (objective == "traffic")
    again = place([first], 32, shape, objective, costs=costs)
    assert again.physical_to_logical.tolist() == plan.physical_to_logical.tolist()


def test_the_worst_class_counts_where_it_is_asked_for(trace: Trace) -> None:
    other = Trace("u", routed(3000, 3, 32, 4, seed=8), np.full(30, 100))
    plan = place([trace, other], 32, Shape(2, 8, 48), "balance", risk="max")
    assert plan.physical_to_logical.shape == (3, 48)


def test_moving_is_for_a_gain_of_three_per_cent(trace: Trace) -> None:
    shape = Shape(2, 8, 48)
    plan = place([trace], 32, shape)
    costs = Costs(2e-7, 5e-8)
    assert not worth_moving(plan, plan, trace.experts, costs)
    assert worth_moving(Placement(shape, 32, linear(3, 32, 48)), plan, trace.experts, costs)


def test_counts_alone_balance() -> None:
    weights = loads(4, 64)
    plan = place_counts(weights, Shape(4, 16, 96), groups=8)
    assert even(weights, plan.physical_to_logical, 16) >= even(weights, eplb(weights, 1, 16, 96), 16)
    with pytest.raises(BadInput, match="traffic needs a trace"):
        place_counts(weights, Shape(4, 16, 96), objective="traffic")
    with pytest.raises(BadInput, match="48 slots can't hold 64 experts"):
        place_counts(weights, Shape(4, 16, 48))


# --- files


def test_a_plan_comes_back_from_its_file(tmp_path: Path, trace: Trace) -> None:
    plan = place([trace], 32, Shape(2, 8, 48), "traffic")
    plan.write(str(tmp_path / "plan.json"))
    again = read_placement(str(tmp_path / "plan.json"))
    assert again.physical_to_logical.tolist() == plan.physical_to_logical.tolist()
    assert again.weights is not None and np.allclose(again.weights, plan.weights, atol=1e-8)  # type: ignore[arg-type]
    assert again.about["objective"] == "traffic"
    document = json.loads((tmp_path / "plan.json").read_text())
    assert {"model", "layers", "experts", "nodes", "gpus", "slots", "physical_to_logical", "weights"} <= document.keys()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"slots": 7}, "7 slots on 2 GPUs"),
        ({"physical_to_logical": [[0, 0, 1, 1]]}, r"layer 0: no slot holds expert\(s\) \[2\]"),
        ({"physical_to_logical": [[0, 1, 2, 3]]}, "names expert 3"),
        ({"layers": 2}, "has 1 layers, 'layers' says 2"),
        ({"weights": [[[0.5, 1, 1, 1]]]}, "add up to 1"),
        ({"gpus": None}, "is no plan"),
    ],
)
def test_what_is_no_plan_is_told(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    good = {"layers": 1, "experts": 3, "nodes": 1, "gpus": 2, "slots": 4, "physical_to_logical": [[0, 1, 2, 0]]}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(good))
    assert read_placement(str(path)).experts == 3
    path.write_text(json.dumps({**good, **change}))
    with pytest.raises(BadInput, match=told):
        read_placement(str(path))


def test_traces_are_read_by_name_and_checked(tmp_path: Path) -> None:
    path = str(tmp_path / "t.npz")
    ids = routed(60, 2, 8, 2)
    np.savez(path, a=ids, a_len=np.array([20, 40]), b=ids[:30], flat=ids[:, 0])
    traces, experts = read_traces(path)
    assert [trace.name for trace in traces] == ["a", "b"] and experts == 8
    first, second = traces[0].halves()
    assert (len(first.experts), len(second.experts)) == (20, 40)
    assert [trace.name for trace in read_traces(f"{path}:b", 16)[0]] == ["b"]
    for text, told in (
        (f"{path}:c", "has no array"),
        (f"{path}:flat", r"\[tokens, layers, top-k\] are needed"),
        (str(tmp_path / "no.npz"), "can't be read"),
    ):
        with pytest.raises(BadInput, match=told):
            read_traces(text)
    with pytest.raises(BadInput, match="has expert 7, but there are 4"):
        read_traces(path, 4)


def test_later_nights_count_more(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "night": ["2026-01-01", "2026-01-08"],
            "layer": [0, 0],
            "expert": [0, 1],
            "tokens": [100, 100],
        }
    ).with_columns(pl.col("night").str.to_date())
    assert counted(rows, halving=7.0).tolist() == [[50.0, 100.0]]
    rows.write_parquet(tmp_path / "counts.parquet")
    assert read_counts(str(tmp_path / "counts.parquet")).tolist() == [[50.0, 100.0]]
    np.save(tmp_path / "counts.npy", np.ones((2, 3)))
    assert read_counts(str(tmp_path / "counts.npy")).shape == (2, 3)
    with pytest.raises(BadInput, match="doesn't exist"):
        read_counts(str(tmp_path / "counts.txt"))
    with pytest.raises(BadInput, match="can't be read as counts"):
        read_counts(str(tmp_path / "counts.npz"))
    several = pl.concat([rows.with_columns(model=pl.lit(name)) for name in "ab"])
    with pytest.raises(BadInput, match="the counts are of several models"):
        counted(several)
