"""Nightly expert placement from an engine's own counts, and what a run's report shows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from cluster.engines.vllm.expert_counts import write_expert_counts
from cluster.moe.placement import read_placement
from jobs.moe.replan import PLAN, replan_experts
from jobs.report.experts import experts
from operators.engine import EngineInfo
from schemas.engine import VllmSpec
from schemas.manifest import RunManifest, StageRecord

LAYERS, EXPERTS = 48, 128
NIGHT = datetime(2026, 11, 26, 3, tzinfo=UTC)


def spec(folder: Path, **changes: object) -> VllmSpec:
    eplb = {"enable_eplb": True, "eplb_config": {"num_redundant_experts": 32}}
    fields = {"model": "Qwen/Qwen3-30B-A3B", "data_parallel": 16, "expert_parallel": True, "engine_kwargs": eplb}
    return VllmSpec.model_validate({**fields, "expert_counts": str(folder), **changes})


def count(folder: Path, seed: int, night: datetime, tilt: float = 1.0) -> None:
    """Write what an engine counted on one night; ``tilt`` decides which experts are popular."""
    draws = np.random.default_rng(seed)
    popular = draws.permutation(EXPERTS) ** tilt + 5.0
    counts = {layer: draws.poisson(popular * 20).tolist() for layer in range(LAYERS)}
    info = EngineInfo("Qwen/Qwen3-30B-A3B", "main", "vllm", 4096, "raw")
    assert write_expert_counts(counts, info, "", "", str(folder), night) is not None


def manifest(engine: VllmSpec) -> RunManifest:
    record = StageRecord(
        name="sample", operator="sample", dataset="samples", kind="store", path="samples/x", view_id="x"
    )
    config = {"sample": {"operator": "sample", "engine": engine.model_dump(mode="json")}}
    return RunManifest(
        run_id="r", pipeline="math", state="done", started=NIGHT, finished=NIGHT, config=config, stages=[record]
    )


def test_a_plan_is_made_from_the_counts_and_kept_until_another_is_worth_it(tmp_path: Path) -> None:
    assert replan_experts(spec(tmp_path)) == {}  # nothing was counted yet
    count(tmp_path, 1, NIGHT)
    environment = replan_experts(spec(tmp_path))
    assert environment == {PLAN: str(tmp_path / "plan" / "plan.npz")}
    first = read_placement(str(tmp_path / "plan" / "plan.json"))
    assert (first.shape.nodes, first.shape.gpus, first.shape.slots) == (2, 16, 160)
    count(tmp_path, 1, NIGHT + timedelta(days=1))  # the same again
    replan_experts(spec(tmp_path))
    same = read_placement(str(tmp_path / "plan" / "plan.json"))
    assert (same.physical_to_logical == first.physical_to_logical).all()
    count(tmp_path, 9, NIGHT + timedelta(days=30))  # other experts are popular now
    replan_experts(spec(tmp_path))
    other = read_placement(str(tmp_path / "plan" / "plan.json"))
    assert (other.physical_to_logical != first.physical_to_logical).any()
    with np.load(environment[PLAN]) as written:
        assert (written["physical_to_logical"] == other.physical_to_logical).all()


def test_only_engines_that_can_follow_a_plan_get_one(tmp_path: Path) -> None:
    count(tmp_path, 1, NIGHT)
    assert replan_experts(spec(tmp_path, engine_kwargs={})) == {}
    assert replan_experts(spec(tmp_path, expert_counts=None)) == {}
    assert replan_experts(spec(tmp_path, model="unknown/dense")) == {}
    assert replan_experts(spec(tmp_path, data_parallel=7)) == {}


def test_the_report_shows_load_and_evenness_against_what_was_predicted(tmp_path: Path) -> None:
    count(tmp_path, 1, NIGHT - timedelta(days=1))
    replan_experts(spec(tmp_path))
    assert experts(manifest(spec(tmp_path))) == []  # of this run's date there is nothing
    count(tmp_path, 1, NIGHT)
    heat, even = experts(manifest(spec(tmp_path)))
    assert len(heat.rows) == LAYERS
    assert even.heads == ("layer", "measured", "predicted", "EPLB", "linear")
    values = np.array([[float(cell) for cell in row[1:]] for row in even.rows])
    measured, predicted, eplb, linear = values.mean(axis=0)
    assert linear < measured <= 1.0
    assert abs(measured - predicted) < 0.02
    assert measured > eplb - 0.02
    assert "<svg" in heat.svg and "mean over fullest GPU" in even.svg
    assert experts(manifest(spec(tmp_path, model="unknown/moe")))[0].title == "sample: load of each expert"
