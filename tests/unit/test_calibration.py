"""Calibration and predictive multiplicity, against what can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from operators.measure.calibration import MeasureCalibration
from operators.measure.multiplicity import MeasureMultiplicity
from schemas.contract import validate
from schemas.errors import BadInput
from schemas.measures import Calibration, Multiplicity


def calibration(confidence: list[float], right: list[bool | None], **fields: int) -> dict[str, object]:
    table = pl.DataFrame(
        {
            "problem_key": [f"p{i:05d}" for i in range(len(right))],
            "method": ["m"] * len(right),
            "confidence": confidence,
            "is_correct": right,
        },
        schema_overrides={"is_correct": pl.Boolean},
    )
    return validate(MeasureCalibration(**fields).run(answers=table.lazy()), Calibration, "test").row(0, named=True)


def test_ece_and_brier_by_hand() -> None:
    found = calibration([0.95, 0.9, 0.85, 0.3, 0.25, 0.0, 0.5], [True, True, False, False, True, False, None])
    # bins: (.9,1]: .95 right; (.8,.9]: .9 right, .85 wrong; (.2,.3]: .3 wrong, .25 right; [0,.1]: 0 wrong
    gaps = [abs(1 - 0.95), 2 * abs(0.5 - 0.875), 2 * abs(0.5 - 0.275), 0.0]
    assert found["ece"] == pytest.approx(sum(gaps) / 6)
    assert found["brier"] == pytest.approx(np.mean([0.05**2, 0.1**2, 0.85**2, 0.3**2, 0.75**2, 0.0]))
    assert (found["n"], found["accuracy"]) == (6, 0.5)
    bins = found["bins"]
    assert [one["n"] for one in bins] == [1, 0, 2, 0, 0, 0, 0, 0, 2, 1]
    assert bins[8]["confidence"] == pytest.approx(0.875)
    assert bins[1]["accuracy"] is None
    assert found["ece_low"] is None
    # of the two bins with two answers: 2 gap^2, less the variance of the bin's residuals
    squares = [2 * 0.375**2 - np.var([0.1, -0.85], ddof=1), 2 * 0.225**2 - np.var([-0.3, 0.75], ddof=1)]
    assert found["rmsce"] == pytest.approx(np.sqrt(max(0.0, sum(squares) / 6)))
    assert found["rmsce_low"] <= found["rmsce"] <= found["rmsce_high"]


def test_what_says_its_chances_is_calibrated_and_overconfidence_shows() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(20_000)
    fair = calibration(said.tolist(), (rng.random(20_000) < said).tolist(), bootstrap=100)
    assert max(fair["ece"], fair["rmsce"]) < 0.02
    assert fair["rmsce_low"] == 0.0
    assert fair["brier"] == pytest.approx(1 / 6, abs=0.01)
    sure = calibration([1.0] * 200, [True] * 100 + [False] * 100)
    assert sure["ece"] == pytest.approx(0.5)
    assert sure["rmsce"] == pytest.approx(0.5, abs=0.002)
    assert 0.4 < sure["rmsce_low"] < 0.46 < 0.54 < sure["rmsce_high"] < 0.6


def test_what_was_always_right_may_still_err() -> None:
    """Thirty of thirty right at confidence 1: the true share may well be .93."""
    found = calibration([1.0] * 30, [True] * 30)
    assert (found["rmsce"], found["brier"], found["accuracy"]) == (0.0, 0.0, 1.0)
    assert 0.05 < found["rmsce_high"] < 0.2
    assert 0.85 < found["accuracy_low"] < 0.96


@pytest.mark.parametrize(
    ("answers", "truth", "chance"),
    [(30, 0.0, lambda c: c), (128, 0.0, lambda c: c), (128, 0.15, lambda c: c - 0.15), (30, 0.1, lambda c: c - 0.1)],
)
def test_intervals_of_the_calibration_error_hold(answers: int, truth: float, chance: Callable[[Any], Any]) -> None:
    """Forty draws each; tests/benchmarks/calibration.py has the whole grid."""
    rng = np.random.default_rng(answers)
    held = 0
    for _ in range(40):
        said = rng.uniform(0.5, 1.0, answers)
        found = calibration(said.tolist(), (rng.random(answers) < chance(said)).tolist(), bootstrap=100)
        held += found["rmsce_low"] <= truth <= found["rmsce_high"]
    assert held >= 36


def test_nothing_known_is_an_error() -> None:
    with pytest.raises(BadInput, match="nothing to measure"):
        calibration([0.5], [None])


def multiplicity(**answers: list[tuple[int, bool | None]]) -> dict[tuple[str, str], float]:
    rows = [
        (f"p{i:03d}", method, str(answer), answer, right)
        for method, given in answers.items()
        for i, (answer, right) in enumerate(given)
    ]
    schema = {
        "problem_key": pl.String, "method": pl.String, "answer": pl.String, "answer_class": pl.Int64,
        "is_correct": pl.Boolean,
    }  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    found = validate(MeasureMultiplicity(epsilon=0.25).run(answers=table.lazy()), Multiplicity, "test")
    return {(row["metric"], row["method"]): row["value"] for row in found.iter_rows(named=True)}


def test_ambiguity_and_discrepancy_are_of_the_nearly_equal() -> None:
    good, bad = (0, True), (1, False)
    found = multiplicity(
        base=[good, good, good, good],
        near=[good, good, good, bad],
        other=[bad, good, good, good],
        far=[bad, bad, bad, bad],
    )
    assert found["baseline", "base"] == 1.0
    assert (found["changed", "near"], found["changed", "far"]) == (0.25, 1.0)
    assert found["ambiguity", ""] == 0.5
    assert max(value for (metric, _), value in found.items() if metric == "discrepancy") == 0.25


def test_without_known_answers_all_are_compared() -> None:
    found = multiplicity(a=[(0, None), (0, None)], b=[(0, None), (3, None)])
    assert found["ambiguity", ""] == 0.5
    with pytest.raises(BadInput, match="at least two methods"):
        multiplicity(a=[(0, None)])


@pytest.mark.parametrize(
    ("confidence", "right"), [([0.5], [True]), ([0.3, 0.9], [True, False]), ([0.2, None], [True, None])]
)
def test_bins_of_one_answer_tell_nothing_of_the_error(confidence: list[float | None], right: list[bool | None]) -> None:
    found = calibration([0.0 if said is None else said for said in confidence], right)
    assert found["rmsce"] is found["rmsce_low"] is found["rmsce_high"] is None
    assert found["accuracy_low"] < found["accuracy_high"]
