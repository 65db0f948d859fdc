"""Selections that tell several models apart: which of them are believed, and how far."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from operators.select.abductive import SelectAbductive
from operators.select.calibrated import _curve  # pyright: ignore[reportPrivateUsage]
from operators.select.judges import SelectJudges
from operators.select.majority import MajorityVote
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from schemas.errors import BadInput
from tests.voting import rows, select, tables


def test_abduction_believes_what_can_be_believed_together() -> None:
    """Two models agree where both are sure; where they don't, one is unsure and wrong."""
    problems = []
    for number in range(40):
        sure = ["7"] * 9 + ["1"]
        unsure = ["1"] * 4 + ["2"] * 3 + ["7"] * 3 if number % 2 else sure
        first, second = (sure, unsure) if number % 4 < 2 else (unsure, sure)
        problems.append(rows(*first, *second, worker=["a"] * 10 + ["b"] * 10))
    found = select(SelectAbductive(inconsistency=0.0), tables(*problems))
    assert all(row["answer"] == "7" for row in found)
    assert {round(row["confidence"], 3) for row in found} == {0.9, 0.45}  # both believed, or one of two
    assert select(SelectAbductive(inconsistency=1.0, abstain=True), tables(*problems))[1]["runner_up"] == "1"


def test_abduction_may_have_no_answer() -> None:
    contradicting = rows("1", "1", "2", "2", worker=["a", "a", "b", "b"])
    [found] = select(SelectAbductive(inconsistency=0.0, abstain=True), tables(contradicting))
    assert found["answer"] in ("1", "2")  # one of both can be believed
    with_nothing = tables(contradicting, rows(None, worker=["a"]))
    assert select(SelectAbductive(abstain=True), with_nothing)[1]["answer"] is None


def test_models_are_told_apart_by_their_inputs() -> None:
    """Sample 0 of both models has the same key; each model's share is of its own samples."""
    small = tables(rows("1", "1", "2"), rows("7", "7", "7"))["verdicts"]
    large = tables(rows("2", "2"), rows("7", "3"))["verdicts"]
    given = {"verdicts_small": small, "verdicts_large": large}
    found = select(SelectAbductive(models=("small", "large"), abstain=False), given)
    assert [row["answer"] for row in found] == ["2", "7"]  # 1/3 + 1 against 2/3; 1 + 1/2
    assert found[1]["confidence"] == pytest.approx(0.75)
    assert [row["n_samples"] for row in found] == [5, 5]
    operator = SelectTopTwo(models=("small", "large"))
    assert operator.scope == "dataset" and list(operator.inputs) == ["verdicts_small", "verdicts_large"]
    assert [row["answer"] for row in select(operator, given)][1] == "7"
    several = SelectSeveral(methods=(SelectAbductive(models=("small", "large")), operator))
    assert {row["method"] for row in select(several, given)} == {"abductive", "top_two"}
    assert "models" not in SelectAbductive().fingerprint(), "results of before this setting are still its results"
    for names, told in ((("a",), "two or more"), (("a", "a"), "two or more"), (("a", "b c"), "letters, digits")):
        with pytest.raises(ValueError, match=told):
            SelectTopTwo(models=names)


def test_judges_are_weighed_by_how_they_agree() -> None:
    rng = np.random.default_rng(1)
    problems = [rows(*rng.choice(["7", "1", "2", "3"], 8, p=[0.3, 0.4, 0.2, 0.1])) for _ in range(150)]
    given = tables(*problems)
    truth = given["verdicts"]
    known = truth["is_correct"].to_numpy()
    judges = []
    for number, (complete, sound) in enumerate([(0.95, 0.9), (0.6, 0.5), (0.55, 0.5), (0.5, 0.55)]):
        draws = np.random.default_rng(number).random(len(known))
        says = pl.Series(np.where(known, draws < complete, draws > sound))
        judges.append(truth.with_columns(is_correct=says, verifier=pl.lit(f"judge{number}")))
    given["verdicts"] = pl.concat([truth.with_columns(verifier=pl.lit("truth")), *judges])
    found = select(SelectJudges(reference="truth"), given)
    accuracy = np.mean([row["is_correct"] for row in found])
    majority = np.mean([row["is_correct"] for row in select(MajorityVote(), tables(*problems))])
    assert accuracy > 0.85 > 0.6 > majority
    confident = np.array([row["confidence"] for row in found])
    right = np.array([row["is_correct"] for row in found])
    assert confident[right].mean() > confident[~right].mean() + 0.1
    assert confident.mean() == pytest.approx(accuracy, abs=0.05)
    assert {row["calibration"] for row in found} == {"calibrated"}
    low, high = (np.mean([row[f"confidence_{end}"] for row in found]) for end in ("low", "high"))
    assert low < accuracy < high
    blind = select(SelectJudges(), {"verdicts": pl.concat(judges)})
    assert {row["calibration"] for row in blind} == {"uncalibrated"}
    with pytest.raises(BadInput, match="'nobody' is none of the verifiers"):
        select(SelectJudges(reference="nobody"), given)


def test_judges_who_do_worse_than_the_vote_arent_listened_to_once_that_is_known() -> None:
    """Two judges who like the answer "9", which is wrong: sure of themselves, and of each other."""
    rng = np.random.default_rng(2)
    problems = [rows(*rng.choice(["7", "9", "2"], 9, p=[0.55, 0.35, 0.1])) for _ in range(120)]
    given = tables(*problems)
    truth = given["verdicts"].with_columns(verifier=pl.lit("truth"))
    judges = [
        truth.with_columns(is_correct=pl.col("predicted_answer") == "9", verifier=pl.lit(f"judge{number}"))
        for number in range(2)
    ]
    asked = pl.concat(judges)
    majority = np.mean([row["is_correct"] for row in select(MajorityVote(), given)])
    some = truth.filter(pl.col("problem_id").is_in([f"p{number}" for number in range(60)]))
    found = select(SelectJudges(reference="truth"), {"verdicts": pl.concat([asked, some])})
    assert len(found) == 120
    right = np.mean([row["answer"] == "7" for row in found])
    assert right == pytest.approx(majority)
    assert np.mean([row["confidence"] for row in found]) == pytest.approx(right, abs=0.05)


def test_a_judges_liking_for_a_recurring_answer_tells_nothing() -> None:
    """Of ten judges, three say yes to "0" and no to all else, whatever is right; the vote has them for workers."""
    rng = np.random.default_rng(4)
    asked, answers_, truth = [], [], rng.integers(0, 4, 300)
    for number, right in enumerate(truth):
        labels = [0, 0, 0, *(int(right if rng.random() < 0.55 else rng.integers(0, 4)) for _ in range(7))]
        answers_.append(rows(*(str(label) for label in labels)))
        asked += [
            (f"p{number}", i, j, str(a), bool(a == b)) for i, a in enumerate(labels) for j, b in enumerate(labels)
        ]
    names = ["problem_id", "sample_index", "judge", "predicted_answer", "is_correct"]
    table = pl.DataFrame(asked, schema=names, orient="row").with_columns(
        verifier=pl.format("judge {}", "judge"), status=pl.lit("ok")
    )
    found = {row["problem_id"]: row["answer"] for row in select(SelectJudges(), {"verdicts": table})}
    vote = {row["problem_id"]: row["answer"] for row in select(MajorityVote(), tables(*answers_))}
    errors = [np.mean([given[f"p{i}"] != str(right) for i, right in enumerate(truth)]) for given in (found, vote)]
    assert errors[0] < errors[1] - 0.02


def test_curves_are_fitted_where_nearly_all_are_equally_sure() -> None:
    """Newton's steps would go too far: confidences of .9995 that are right in two of three."""
    rng = np.random.default_rng(0)
    odds = np.where(rng.random(1000) < 0.97, 7.6, rng.uniform(-7, 7, 1000))
    right = (rng.random(1000) < 0.65).astype(float)
    centre, spread = _curve(odds - odds.mean(), right, odds - odds.mean())
    assert (1 / (1 + np.exp(-centre))).mean() == pytest.approx(right.mean(), abs=1e-3)
    assert (spread > 0).all()
