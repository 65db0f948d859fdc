"""``gristmill moe`` and ``gristmill layout``, as they are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.commands import as_json, gristmill
from tests.support import write_problems
from tests.unit.test_moe_placement import routed

SIZE = ("--nodes", "2", "--gpus", "8", "--slots", "48")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moe")
    ids = routed(6000, 2, 32, 4, seed=3)
    np.savez(folder / "first.npz", a=ids[:3000], a_len=np.full(30, 100))
    np.savez(folder / "second.npz", a=ids[3000:], a_len=np.full(30, 100))
    (folder / "cluster.yaml").write_text("nodes: 18\ngpu: H100\nprice_per_gpu_hour: 2.5\n")
    return folder


def test_a_plan_is_made_measured_and_exported(place: Path) -> None:
    made = as_json(
        "moe", "place", "--trace", "first.npz", *SIZE, "--objective", "traffic", "--out", "p.json", cwd=place
    )
    assert (made["layers"], made["experts"], made["weights"]) == (2, 32, True)
    found = as_json("moe", "evaluate", "p.json", "--trace", "second.npz", cwd=place)
    policies = found["policies"]
    assert list(policies) == ["plan", "plan, uniform replicas", "EPLB global", "EPLB hierarchical", "linear"]
    figure = "remote_nodes_per_token_layer"
    assert policies["plan"][figure] < 0.8 * policies["EPLB global"][figure]
    assert {"balancedness", "worst_layer", "step_balancedness_512", "step_balancedness_2048"} <= policies["plan"].keys()
    assert found["eplb_planned_with"] == "the counts the plan was made with"
    shown = gristmill("moe", "evaluate", "p.json", "--trace", "second.npz:a", "--plot", "p.svg", cwd=place)
    picture = (place / "p.svg").read_text()
    assert "remote nodes per token" in picture and "load of each GPU" in picture
    assert "remote nodes per token layer" in shown.stdout
    for engine, suffix in (("vllm", "npz"), ("sglang", "json"), ("trtllm", "yaml"), ("ascend", "json")):
        done = as_json("moe", "export", "p.json", "--to", engine, cwd=place)
        assert (place / f"p.{engine}.{suffix}").exists() and done["start"]
    shown = gristmill("moe", "export", "p.json", "--to", "sglang", "--model", "DeepSeek-V2-Lite", cwd=place)
    assert "weights aren't in it" in shown.stdout
    table = json.loads((place / "p.sglang.json").read_text())["physical_to_logical_map"]
    assert len(table) == 3, "the model's first layer has no experts"


def test_a_running_plan_stays_unless_a_new_one_gains(place: Path) -> None:
    arguments = ("moe", "place", "--trace", "first.npz", *SIZE, "--out")
    as_json(*arguments, "old.json", cwd=place)
    again = as_json(*arguments, "new.json", "--running", "old.json", cwd=place)
    assert again["kept_running"]


def test_counts_alone_do(place: Path) -> None:
    np.save(place / "counts.npy", np.random.default_rng(0).lognormal(0, 0.7, (3, 32)))
    made = as_json("moe", "place", "--counts", "counts.npy", *SIZE, "--groups", "4", "--out", "c.json", cwd=place)
    assert made["layers"] == 3 and not made["weights"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("moe", "place", *SIZE, "--out", "x.json"), "give --trace FILE.npz, or --counts FILE"),
        (("moe", "place", "--trace", "first.npz", *SIZE[:4], "--slots", "50", "--out", "x.json"), "don't divide"),
        (("moe", "place", "--trace", "first.npz", *SIZE[:4], "--slots", "24", "--out", "x"), "can't hold 32 experts"),
        (("moe", "evaluate", "none.json", "--trace", "first.npz"), "'none.json' can't be read"),
        (("layout", "Kimi-K2", "--cluster", "ray:127.0.0.1:1"), "no Ray cluster at '127.0.0.1:1'"),
        (("layout", "Mixtral", "--cluster", "cluster.yaml"), "no model 'Mixtral'"),
    ],
)
def test_mistakes_are_explained(place: Path, arguments: tuple[str, ...], told: str) -> None:
    done = gristmill(*arguments, cwd=place)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_plan_tells_how_the_experts_lie(place: Path) -> None:
    from cluster.moe.known import CONFIGS

    write_problems(place / "problems.jsonl", 3)
    (place / "model").mkdir()
    (place / "model/config.json").write_text(json.dumps(CONFIGS["DeepSeek-V3"]))
    engine = {
        "kind": "vllm",
        "model": "model",
        "data_parallel": 32,
        "expert_parallel": True,
        "engine_kwargs": {"enable_eplb": True, "eplb_config": {"num_redundant_experts": 32}},
    }
    settings = ("--set", "load.source=problems.jsonl", "--set", f"engine={json.dumps(engine)}")
    found = as_json("plan", "math", *settings, cwd=place)
    [experts] = [stage["experts"] for stage in found["stages"] if "experts" in stage]
    assert (experts["layers"], experts["ranks"], experts["slots_per_rank"]) == (58, 32, 9.0)
    assert experts["divides"] and experts["experts_gb"] == pytest.approx(23.0, abs=0.1)
    shown = gristmill("plan", "math", *settings, cwd=place)
    assert "58 layers of 256 (top 8) on 32 ranks, 32 redundant: 9 slots a rank" in shown.stdout


def test_layouts_are_ranked_and_rejections_explained(place: Path) -> None:
    found = as_json("layout", "DeepSeek-V3", "--cluster", "cluster.yaml", cwd=place)
    speeds = [one["tokens_per_second"] * one["gpus"] * one["replicas"] for one in found["layouts"]]
    assert speeds == sorted(speeds, reverse=True)
    assert found["layouts"][0]["ep"] > 8
    assert any(one["reason"] == "too little memory" for one in found["rejected"])
    shown = gristmill("layout", "Kimi-K2", "--cluster", "cluster.yaml", cwd=place)
    assert "--enable-expert-parallel" in shown.stdout and "rejected: too little memory" in shown.stdout
    (place / "small.yaml").write_text("nodes: 1\ngpu: L40S\n")
    done = gristmill("layout", "DeepSeek-V3", "--cluster", "small.yaml", cwd=place)
    assert done.returncode == 1 and "No layout fits." in done.stdout
