"""Confidences that are fitted to known answers leave what is held out alone, and pipelines say what that is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from operators.load import Load
from operators.load.held_out import held_out
from operators.sample.sampling import Sampling
from operators.select.calibrated import calibrated, usable
from operators.select.judges import SelectJudges
from operators.select.majority import MajorityVote
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec


def answers(held_right: bool) -> pl.DataFrame:
    """Return 300 answers, half of what isn't held out (at .4) right; of the others all or none."""
    rng = np.random.default_rng(0)
    keys = pl.Series("problem_key", [f"p{number}" for number in range(300)])
    sure = rng.uniform(0.5, 1.0, 300)
    right = np.where(held_out(keys, 0.4).to_numpy(), held_right, rng.random(300) < 0.5)
    return pl.DataFrame(
        {"problem_key": keys, "is_correct": right, "confidence": sure, "runner_up_confidence": 1 - sure, "method": "m"}
    )


def test_what_is_held_out_has_no_say() -> None:
    good, bad = answers(True), answers(False)
    one, other = (calibrated(table, table, 0.4) for table in (good, bad))
    assert one["confidence"].equals(other["confidence"]) and one["calibration"].unique().to_list() == ["calibrated"]
    all_of = [calibrated(table, table)["confidence"].mean() for table in (good, bad)]
    assert all_of[0] > one["confidence"].mean() > all_of[1], "without a share all are looked at"  # type: ignore[operator]
    assert one["confidence"].mean() == pytest.approx(0.5, abs=0.08)
    few = good.filter(~held_out(good["problem_key"], 0.4)).head(40)
    out = good.filter(held_out(good["problem_key"], 0.4))
    assert calibrated(pl.concat([few, out]), good, 0.4)["calibration"].unique().to_list() == ["uncalibrated"]
    assert usable(good, 0.0).all() and usable(good, None).all()


def test_a_vote_that_is_better_on_what_is_held_out_alone_is_not_taken() -> None:
    method, vote = answers(False), answers(True).with_columns(confidence=0.75)
    assert calibrated(method, vote, 0.4)["confidence"].n_unique() > 200
    assert calibrated(method, vote)["confidence"].n_unique() < 10, "the vote was taken"


def test_a_pipeline_tells_what_its_source_holds_out() -> None:
    several = SelectSeveral(methods=(MajorityVote(), SelectTopTwo(worker="sample_index"), SelectJudges(holdout=0.0)))

    def selected(load: Load) -> SelectSeveral:
        pipeline = Pipeline("test")
        problems = pipeline.stage("load", load)
        samples = pipeline.stage("sample", Sampling(), engine=ScriptedSpec(), problems=problems)
        verdicts = pipeline.stage("verify", VerifyMath(), problems=problems, samples=samples)
        found = pipeline.stage("select", several, verdicts=verdicts).operator
        assert isinstance(found, SelectSeveral)
        return found

    vote, top_two, judges = selected(Load(source="p.jsonl", holdout=0.2)).methods
    assert vote == MajorityVote()
    assert isinstance(top_two, SelectTopTwo) and top_two.holdout == 0.2
    assert isinstance(judges, SelectJudges) and judges.holdout == 0.0, "its own setting stands"
    plain = selected(Load(source="p.jsonl"))
    assert plain.id() == several.id(), "nothing is computed again where nothing is held out"
