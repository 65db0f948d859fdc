"""Traces that are cut while they are written (``sample.cut``): the same samples however the work was cut up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from operators.sample.sampling import ConfidenceCut, Sampling
from pipelines.graph import Pipeline
from schemas.errors import BadInput
from tests.support import run, scripted_pipeline, write_problems

CUT = ConfidenceCut(warm_up=8, keep=0.5)
COLUMNS = ["problem_key", "sample_index", "completion", "finish_reason", "lowest_group_confidence"]


def pipeline(folder: Path, n: int, **engine: object) -> Pipeline:
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 5)
    answers = ("one two 0", "three four 1")
    return scripted_pipeline(source, n, Sampling(cut=CUT), answers=answers, **engine)


def rows(result: RunResult) -> pl.DataFrame:
    return result.dataset("sample").select(COLUMNS).sort("problem_key", "sample_index").collect()


def test_samples_behind_the_warm_up_are_cut_below_its_quantile(tmp_path: Path) -> None:
    found = rows(run(LocalRunner(), pipeline(tmp_path, 40), tmp_path / "root"))
    assert len(found) == 200
    for (_,), problem in found.group_by("problem_key"):
        sure = problem["lowest_group_confidence"].to_numpy()
        threshold = np.quantile(sure[:8], 0.5)
        cut = (problem["finish_reason"] == "cut").to_numpy()
        assert not cut[:8].any()
        assert (cut[8:] == (sure[8:] < threshold)).all()
        assert 0 < cut.sum() < 32
    assert {*found.filter(pl.col("finish_reason") == "cut")["completion"]} <= {"one", "three"}


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_top_up_knows_the_thresholds(tmp_path: Path, replicas: int) -> None:
    """From a warm-up that isn't whole yet, one that is in the store, and by several workers: the same rows."""
    at_once = rows(run(LocalRunner(), pipeline(tmp_path, 40), tmp_path / "at once"))
    for n in (5, 20, 40):
        later = run(LocalRunner(), pipeline(tmp_path, n, replicas=replicas, slots=4), tmp_path / "by and by")
    assert rows(later).equals(at_once)


def test_an_engine_that_cannot_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't cut traces \(sample\.cut\): set engine\.logprobs=true"):
        pipeline(tmp_path, 4, logprobs=False)
