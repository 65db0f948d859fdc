"""Work that fails: done again, started twice, or cut down to the rows that are to blame."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import polars as pl
import pytest

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from operators.base import Operator
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.datasets import Problem, Sample, Verdict
from schemas.errors import StageFailed
from schemas.job import RunSettings
from tests.support import QUICK, keys, ray_runner, run, scripted_pipeline, stage, write_problems

Trouble = Literal["raise", "die", "hang", "hang once", "die once"]


class Troubled(Operator):
    """Verifies like ``verify.exact``, but makes trouble over chosen sample indices while ``switch`` exists."""

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {
        "samples": Sample.select("problem_key", "sample_index", "problem_id", "completion", "status"),
        "problems": Problem.select("problem_key", "answer", "verification"),
    }
    output = Verdict

    switch: str
    trouble: Trouble
    indices: tuple[int, ...]

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        if samples["sample_index"].is_in(self.indices).any() and self._on():
            if self.trouble == "raise":
                raise ValueError("this row is too much for me")
            if self.trouble.startswith("die"):
                os._exit(1)
            time.sleep(3600)
        return VerifyExact().run(samples=samples, problems=problems)

    def _on(self) -> bool:
        """Whether to make trouble now; ``once`` takes the switch away."""
        try:
            if self.trouble.endswith("once"):
                os.unlink(self.switch)
                return True
            return os.path.exists(self.switch)
        except FileNotFoundError:
            return False


def troubled(tmp_path: Path, trouble: Trouble, indices: tuple[int, ...] = (3,), n: int = 40) -> Pipeline:
    source = tmp_path / "p.jsonl"
    if not source.exists():
        write_problems(source, 1 if trouble in ("die", "hang") else 3)  # each costs a worker, or its time
        (tmp_path / "switch").touch()
    whole = scripted_pipeline(source, n)
    pipeline = Pipeline("troubled")
    problems = pipeline.stage("load", whole.stages["load"].operator)
    drawn = pipeline.stage(
        "sample", whole.stages["sample"].operator, engine=whole.stages["sample"].engine, problems=problems
    )
    operator = Troubled(switch=str(tmp_path / "switch"), trouble=trouble, indices=indices)
    verdicts = pipeline.stage("verify", operator, samples=drawn, problems=problems)
    pipeline.stage("select", whole.stages["select"].operator, verdicts=verdicts)
    return pipeline


def hasty(**changes: float) -> RunSettings:
    return QUICK.model_copy(update=changes)


def check_guilty(result: RunResult, indices: tuple[int, ...], words: str) -> None:
    """The run is incomplete, exactly the guilty rows are left out, and it is written down why."""
    assert result.manifest.state == "incomplete"
    assert "quarantined" in (result.manifest.error or "")
    every = set(keys(result))
    verified = set(keys(result, "verify"))
    assert {index for _, index in every - verified} == set(indices)
    assert len(every - verified) == result.manifest.n_problems * len(indices)
    written = result.root.read_bytes("runs", result.manifest.run_id, "quarantine.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in written]
    assert {(row["problem_key"], row["sample_index"]) for row in rows} == every - verified
    assert all(words in row["error"] and row["stage"] == "verify" for row in rows)


@pytest.mark.parametrize(
    ("make", "trouble", "every", "words"),  # of many rows, it takes a worker's life, or its time, to find each half
    [
        pytest.param(LocalRunner, "raise", 40, "this row is too much for me", id="raise"),
        pytest.param(LocalRunner, "hang", 2, "didn't return in time", id="hang"),
        pytest.param(ray_runner, "die", 2, "WorkerCrashedError", id="die", marks=pytest.mark.ray),
    ],
)
def test_only_the_guilty_rows_are_left_out(
    make: Callable[[], Runner], trouble: Trouble, every: int, words: str, tmp_path: Path
) -> None:
    guilty = (min(3, every - 1),)
    limit = 6.0 if trouble == "hang" else 600.0  # longer than two rows take on a busy machine
    first = run(make(), troubled(tmp_path, trouble, guilty, every), tmp_path / "root", hasty(task_seconds=limit))
    check_guilty(first, guilty, words)
    (tmp_path / "switch").unlink()
    again = run(LocalRunner(), troubled(tmp_path, trouble, guilty, every), tmp_path / "root")
    assert again.manifest.state == "done"
    left = again.manifest.n_problems
    assert stage(again, "verify") == {"planned": every * left, "reused": (every - 1) * left, "computed": left}
    assert keys(again, "verify") == keys(again)


def test_an_operator_that_fails_everywhere_is_broken_itself(tmp_path: Path) -> None:
    pipeline = troubled(tmp_path, "raise", tuple(range(40)))
    with pytest.raises(StageFailed, match=r"stage verify: .*ValueError: this row is too much for me\n"):
        run(LocalRunner(), pipeline, tmp_path / "root")


@pytest.mark.ray
def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    result = run(ray_runner(), troubled(tmp_path, "die once"), tmp_path / "root")
    assert result.manifest.state == "done"
    assert not (tmp_path / "switch").exists()
    assert keys(result, "verify") == keys(result)


def test_a_straggler_is_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.stages.flights.STRAGGLER", 0.5)
    monkeypatch.setattr("cluster.stages.states.TASK_SAMPLES", 10)  # many small tasks, so that their usual pace is known
    result = run(LocalRunner(slots=3), troubled(tmp_path, "hang once", indices=(39,)), tmp_path / "root")
    assert result.manifest.state == "done"
    assert not (tmp_path / "switch").exists()
    assert keys(result, "verify") == keys(result)
    assert result.manifest.stages[2].quarantined == 0
