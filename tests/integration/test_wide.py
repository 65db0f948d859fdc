"""Dataset-scope operators: piece by piece on one node, and through Ray Data past a set size; the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.runners.local import LocalRunner
from operators.measure.pass_at_k import PassAtK
from operators.measure.selection import MeasureSelection
from pipelines.graph import Pipeline
from schemas.job import RunSettings
from tests.support import QUICK, ray_runner, run, scripted_pipeline, write_problems


def measured(source: Path) -> Pipeline:
    pipeline = scripted_pipeline(source, 30)
    verdicts = pipeline.stages["verify"]
    pipeline.stage("coverage", PassAtK(), verdicts=verdicts)
    pipeline.stage("accuracy", MeasureSelection(), verdicts=verdicts)
    return pipeline


@pytest.mark.ray
def test_past_the_size_measures_go_through_ray_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.ray.runner import RayRunner

    wide: list[str] = []
    submit = RayRunner.submit_wide
    monkeypatch.setattr(RayRunner, "submit_wide", lambda self, task: wide.append(task.stage) or submit(self, task))
    monkeypatch.setattr(
        "cluster.planning.plan.CHUNK_SAMPLES", 100
    )  # three problems a chunk, so that there are pieces to spread
    source = write_problems(tmp_path / "p.jsonl", 10)
    local = run(LocalRunner(), measured(source), tmp_path / "local")
    settings = RunSettings.model_validate({**QUICK.model_dump(), "wide_samples": 200})
    spread = run(ray_runner(), measured(source), tmp_path / "ray", settings)
    assert sorted(wide) == ["accuracy", "coverage"]
    for name in ("coverage", "accuracy"):
        assert local.dataset(name).collect().equals(spread.dataset(name).collect())
