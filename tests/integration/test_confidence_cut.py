"""Traces that are cut while they are written (``sample.cut``): the same samples however the work was cut up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.stages.warm_ups import WarmUps
from cluster.storage.ranges import Ranges, RangeSet
from operators.policies.named import UniformSpec
from operators.sample.sampling import ConfidenceCut, Sampling
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.errors import BadInput
from tests.support import BOTH, QUICK, make_runner, run, scripted_pipeline, write_problems

CUT = ConfidenceCut(warm_up=8, keep=0.5)
COLUMNS = ["problem_key", "sample_index", "completion", "finish_reason", "lowest_group_confidence"]


def pipeline(folder: Path, n: int, sampling: Sampling | None = None, **engine: object) -> Pipeline:
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 5)
    answers = ("one two 0", "three four 1")
    return scripted_pipeline(source, n, sampling or Sampling(cut=CUT), answers=answers, **engine)


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


@BOTH
def test_under_a_policy_and_a_budget_they_wait_as_well(tmp_path: Path, runner: str) -> None:
    at_once = rows(run(LocalRunner(), pipeline(tmp_path, 40), tmp_path / "at once"))
    settings = QUICK.model_copy(update={"budget": Budget(tokens=100_000)})
    adaptive = pipeline(tmp_path, 40, Sampling(cut=CUT, policy=UniformSpec()), replicas=2)
    found = rows(run(make_runner(runner), adaptive, tmp_path / "adaptive", settings))
    assert found.equals(at_once)


def test_a_warm_up_that_never_gets_whole_holds_nothing_up(tmp_path: Path) -> None:
    failing = pipeline(tmp_path, 40, Sampling(cut=CUT, retries=0), fail_transient=0.3)
    result = run(LocalRunner(), failing, tmp_path / "root")
    found = rows(result)
    assert result.manifest.state == "incomplete" and 100 < len(found) < 180
    assert (found.filter(pl.col("sample_index") < 8).group_by("problem_key").len()["len"] < 8).any()
    assert (found.group_by("problem_key").agg(pl.col("sample_index").max())["sample_index"] > 30).all()


def test_what_waits_is_handed_out_once_its_warm_up_is_known() -> None:
    held = Ranges.of([0, 1, 2], [0, 0, 4], [8, 3, 20])
    warm_ups = WarmUps(8, held)
    asked = Ranges.of([0, 1, 1, 2, 3, 4], [8, 3, 6, 0, 0, 30], [32, 3, 10, 4, 40, 2])
    now, of = warm_ups.keep_back(asked)
    assert list(now) == [(0, 8, 32), (1, 3, 3), (1, 6, 2), (2, 0, 4), (3, 0, 8)]
    assert of.tolist() == [0, 1, 2, 3, 4] and warm_ups
    assert not warm_ups.free()
    warm_ups.on_known(Ranges.of([1, 3], [3, 0], [4, 12]))
    assert list(warm_ups.free()) == [(3, 8, 32)]
    warm_ups.on_known(Ranges.of(1, 7, 1))  # it was given up
    assert list(warm_ups.free()) == [(1, 8, 8)] and not warm_ups.free()
    warm_ups.forget(Ranges.of(1, 2, 1))  # it is made again
    assert list(warm_ups.keep_back(Ranges.of([1, 1], [2, 20], [1, 4]))[0]) == [(1, 2, 1)]
    warm_ups.on_known(Ranges.of(1, 2, 1))
    assert list(warm_ups.free()) == [(1, 20, 4)]
    assert list(warm_ups.leave_out(np.array([4]))) == [(4, 30, 2)] and not warm_ups
    facts = warm_ups.facts(Ranges.of([0, 1, 3], [20, 2, 8], [5, 3, 2]), RangeSet(held))
    assert list(facts) == [(0, 0, 8)]


def test_an_engine_that_cannot_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't cut traces \(sample\.cut\): set engine\.logprobs=true"):
        pipeline(tmp_path, 4, logprobs=False)
