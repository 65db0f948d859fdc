"""Our expert plan in vLLM's load balancer: the plugin, executed against the policy of the installed vLLM."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.engines.vllm.experts import COUNTS, PLAN, policy_of, register
from cluster.engines.vllm.routing import RoutingCounts
from cluster.moe.emit import emit
from cluster.moe.eplb import eplb
from cluster.moe.place import place_counts
from cluster.moe.placement import Placement, Shape
from cluster.moe.routing import read_counts
from tests.with_vllm.models import MIXTURE
from tests.with_vllm.vllm_cpu import on_cpu

pytestmark = [pytest.mark.vllm]

SHAPE = Shape(2, 8, 24)
TABLE = eplb(np.random.default_rng(0).lognormal(0, 0.7, (3, 16)), 1, 8, 24)


@pytest.fixture(autouse=True)
def _restored() -> Any:
    from vllm.distributed.eplb.policy import EPLB_POLICIES

    before = dict(EPLB_POLICIES)
    yield
    EPLB_POLICIES.update(before)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "plan.npz"
    emit(Placement(SHAPE, 16, TABLE), "vllm", str(path))
    monkeypatch.setenv(PLAN, str(path))
    monkeypatch.setenv(COUNTS, str(tmp_path / "counts"))
    return path


def asked(weight: Any, **changes: int) -> Any:
    from vllm.distributed.eplb.policy import EPLB_POLICIES

    sizes = {"num_replicas": 24, "num_groups": 1, "num_nodes": 2, "num_ranks": 8, **changes}
    return EPLB_POLICIES["default"].rebalance_experts(weight, *sizes.values(), None)


def test_vllm_finds_the_plugin() -> None:
    [point] = [point for point in entry_points(group="vllm.general_plugins") if point.name == "gristmill_experts"]
    assert point.load() is register


def test_without_a_plan_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.eplb.policy import EPLB_POLICIES, DefaultEplbPolicy

    monkeypatch.delenv(PLAN, raising=False)
    monkeypatch.delenv(COUNTS, raising=False)
    register()
    assert EPLB_POLICIES["default"] is DefaultEplbPolicy


def test_the_plan_is_returned_on_every_rank_and_in_profiling(plan: Path) -> None:
    import torch

    register()
    loads = torch.rand(3, 16) * 100
    answers = [asked(weight) for weight in (loads, loads.clone(), torch.zeros(3, 16))]
    for answer in answers:
        assert answer.dtype == torch.int64 and answer.device == torch.device("cpu")
        assert answer.tolist() == TABLE.tolist()
    answers[0][0, 0] = -1
    assert asked(loads).tolist() == TABLE.tolist(), "an answer is nobody else's"


def test_of_several_plans_the_one_is_followed_that_suits_what_went_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    draws = np.random.default_rng(1)
    classes = draws.lognormal(0, 1.5, (2, 3, 16))
    tables = [eplb(counts, 1, 8, 24) for counts in classes]
    assert tables[0].tolist() != tables[1].tolist()
    for name, table in zip("ab", tables, strict=True):
        emit(Placement(SHAPE, 16, table), "vllm", str(tmp_path / f"{name}.npz"))
    monkeypatch.setenv(PLAN, f"{tmp_path}/a.npz:{tmp_path}/b.npz")
    monkeypatch.delenv(COUNTS, raising=False)
    register()
    for counts, table in zip(classes, tables, strict=True):
        for _ in range(2):  # on every rank
            assert asked(torch.from_numpy(counts * 1000)).tolist() == table.tolist()
    assert asked(torch.zeros(3, 16)).tolist() == tables[0].tolist()


def test_counts_are_written_out_and_profiling_has_none(plan: Path) -> None:
    import torch

    register()
    asked(torch.zeros(3, 16))
    folder = plan.parent / "counts"
    assert not folder.exists()
    asked(torch.full((3, 16), 7.0))
    [file] = folder.iterdir()
    assert np.load(file)["counts"].tolist() == np.full((3, 16), 7.0).tolist()


@pytest.mark.parametrize(
    ("weight", "changes", "told"),
    [
        ((3, 16), {"num_replicas": 32}, "set num_redundant_experts to 8"),
        ((3, 16), {"num_ranks": 4}, "it is for 8 GPUs, the engine has 4"),
        ((2, 16), {}, "it has 3 layers of 16 experts, the model 2 of 16"),
    ],
)
def test_a_plan_for_something_else_leaves_it_to_vllm(
    plan: Path, caplog: pytest.LogCaptureFixture, weight: tuple[int, int], changes: dict[str, int], told: str
) -> None:
    import torch
    from vllm.distributed.eplb.policy import DefaultEplbPolicy

    loads = torch.rand(*weight) * 100
    sizes = {"num_replicas": 24, "num_groups": 1, "num_nodes": 2, "num_ranks": 8, **changes}
    register()
    found = asked(loads, **changes)
    assert found.tolist() == DefaultEplbPolicy.rebalance_experts(loads, *sizes.values()).tolist()
    assert told in caplog.text


def test_vllms_own_policy_is_the_one_we_plan_against() -> None:
    import torch
    from vllm.distributed.eplb.policy import DefaultEplbPolicy

    weights = np.random.default_rng(1).lognormal(0, 0.7, (6, 64))
    for groups, nodes, gpus, slots in ((1, 2, 16, 96), (8, 4, 16, 96)):
        theirs = DefaultEplbPolicy.rebalance_experts(torch.from_numpy(weights), slots, groups, nodes, gpus).numpy()
        ours = eplb(weights, nodes, gpus, slots, groups)
        for counts, mine, other in zip(weights, ours, theirs, strict=True):
            heights = []
            for row in (mine, other):
                each = counts / np.bincount(row, minlength=64)
                heights.append(np.sort(each[row].reshape(gpus, -1).sum(axis=1)))
            assert heights[0] == pytest.approx(heights[1], rel=1e-5)


def test_another_interface_is_refused_clearly(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.eplb import policy

    class Other:
        @classmethod
        def rebalance_experts(cls, weight: Any, topology: Any) -> Any: ...

    monkeypatch.setattr(policy, "DefaultEplbPolicy", Other)
    with pytest.raises(RuntimeError, match=r"another load balancer than 0\.32 and 0\.33.*'topology'"):
        register()
    monkeypatch.setitem(sys.modules, "vllm.distributed.eplb", None)
    with pytest.raises(RuntimeError, match=r"isn't where 0\.32 and 0\.33 have it"):
        register()


def test_a_plan_that_cannot_be_read_stops_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAN, str(tmp_path / "none.npz"))
    with pytest.raises(RuntimeError, match=r"gristmill moe export plan\.json --to vllm"):
        policy_of(object)


async def _answers(spec: Any, prompts: int) -> list[int]:
    """Ask an engine, close it, and return how many tokens each answer's request had."""
    from cluster.engines import build_engine
    from operators.engine import Request
    from schemas.engine import SamplingParams

    engine = build_engine(spec)
    try:
        requests = [Request(f"one two three {at}", SamplingParams(max_tokens=9), at) for at in range(prompts)]
        found = [(await engine.generate(request))[0] for request in requests]
    finally:
        await engine.close()
    return [answer.prompt_tokens + answer.completion_tokens - answer.cached_prompt_tokens for answer in found]


@pytest.mark.slow
def test_a_real_engine_fills_the_counts_that_the_next_plan_reads(tmp_path: Path) -> None:
    spec = on_cpu(model=str(MIXTURE), expert_counts=str(tmp_path / "counts"), job_class="sums")
    tokens = sum(asyncio.run(_answers(spec, 6)))
    [file] = (tmp_path / "counts").iterdir()
    rows = pl.read_parquet(file)
    assert rows["job_class"].unique().to_list() == ["sums"]
    assert (rows["layer"].n_unique(), rows["expert"].n_unique()) == (2, 16)
    sums = rows.group_by("layer").agg(pl.col("tokens").sum()).sort("layer")["tokens"].to_list()
    assert sums[0] == sums[1]
    # four experts a token; a completion's last token is never routed, and warming up may add some
    assert sums[0] >= 4 * (tokens - 6)
    table = read_counts(str(tmp_path / "counts"))
    plan = place_counts(table, Shape(2, 4, 24))
    assert plan.physical_to_logical.shape == (2, 24)


def test_a_dense_model_has_nothing_to_count() -> None:
    import torch

    layers = torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({"up": torch.nn.Linear(2, 2)})})])
    counter = RoutingCounts()
    config = SimpleNamespace(hf_text_config=SimpleNamespace(num_experts_per_tok=2))
    counter.model_runner = SimpleNamespace(
        get_model=lambda: torch.nn.ModuleDict({"layers": layers}), model_config=config
    )
    assert counter.begin_counting() == 0
    assert counter.expert_counts() == {}


def test_hooks_count_the_best_experts_of_each_token() -> None:
    import torch

    gate = torch.nn.Identity()
    layers = torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({"gate": gate})})])
    counter = RoutingCounts()
    config = SimpleNamespace(hf_text_config=SimpleNamespace(num_experts_per_tok=2))
    counter.model_runner = SimpleNamespace(
        get_model=lambda: torch.nn.ModuleDict({"layers": layers}), model_config=config
    )
    assert counter.begin_counting() == 1
    gate(torch.tensor([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0]]))
    gate(torch.tensor([[3.0, 2.0, 1.0]]))
    assert counter.expert_counts() == {0: [2, 3, 1]}
