"""What the report draws: curves, their intervals and the numbers beside them."""

from __future__ import annotations

import re

import polars as pl

from jobs.report.bills import bills
from jobs.report.build import render
from jobs.report.format import interval, wilson
from schemas import episodes, measures
from tests.report_page import Page, frame, manifest, tables


def test_answers_stand_in_for_absent_selection_accuracy() -> None:
    given = {name: rows for name, rows in tables().items() if name != "accuracy"}
    text = re.sub(r"\s+", " ", Page(render(manifest(), given)).text)
    assert f"Majority 50.0% 95% interval {interval(*wilson(2, 4))} n = 4 problems" in text


def test_curves_share_an_axis_around_their_intervals() -> None:
    given = tables()
    for name, value in (("coverage", "coverage"), ("accuracy", "accuracy")):
        given[name] = given[name].with_columns(pl.lit(0.85).alias(value), pl.lit(0.81).alias("low"))
    text = Page(render(manifest(), given)).text
    assert text.count(" 80%") >= 2 and "  0%" not in text.partition("Where right and wrong fall")[0]


def test_at_most_two_bands_are_drawn() -> None:
    given = tables()
    rows = [
        {"n": n, "method": method, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
        for method, accuracy in (("a", 0.5), ("b", 0.7), ("majority", 0.6), ("z", 0.3))
        for n in (1, 10)
    ]
    page = render(manifest(), {**given, "accuracy": frame(measures.SelectionAccuracy, rows)})
    assert page.count("mark-area") == render(manifest(), given).count("mark-area") + 1
    assert "Bands: majority and the best of the others." in page
    assert page.index("majority, with its 95% interval") < page.index("b, with its 95% interval") < page.index("z</li>")


def test_single_point_curves_are_drawn() -> None:
    given = tables()
    given |= {name: given[name].head(1) for name in ("coverage", "accuracy")}
    assert Page(render(manifest(), given)).names.count("svg") == 5


def test_calibration_and_forecast_are_drawn_with_their_numbers() -> None:
    bins = [{"low": 0.0, "high": 0.5, "n": 1, "confidence": 0.4, "accuracy": 0.0}]
    bins += [{"low": 0.5, "high": 1.0, "n": 3, "confidence": 0.8, "accuracy": 1.0}]
    shares = dict.fromkeys(("ece_low", "ece_high", "brier_low", "brier_high", "accuracy_low", "accuracy_high"), 0.5)
    calibrated = [
        {
            "method": method,
            "n": 4,
            "confidence": 0.7,
            "accuracy": 0.75,
            "ece": ece,
            "brier": 0.1,
            **shares,
            **dict.fromkeys(("rmsce", "rmsce_low", "rmsce_high"), rmsce),
            "bins": bins,
        }
        for method, ece, rmsce in (("rpc", 0.123, 0.1), ("majority", 0.25, None))
    ]
    forecast = [
        {
            "model": "",
            "k": k,
            "method": method,
            "coverage": 0.9,
            "low": 0.8,
            "high": 0.95,
            "n_problems": 4,
            "note": "so",
        }
        for k in (20, 50)
        for method in ("tail", "beta_binomial", "power_law", "ttspm")
    ]
    given = {
        **tables(),
        "calibration": frame(measures.Calibration, calibrated),
        "forecast": frame(measures.Forecast, forecast),
    }
    stages = [
        manifest().stages[0].model_copy(update={"name": name, "dataset": name}) for name in ("calibration", "forecast")
    ]
    page = render(manifest(stages=[*manifest().stages, *stages]), given)
    assert page.index("majority: ECE 25.0%") < page.index("rpc: RMSCE 10.0%"), "an older run has no RMSCE"
    assert "will have a right sample once each has k" in page
    assert "Coverage to come" in page
    assert "Forecast of coverage: 90.0% at 50 samples a problem" in page
    assert "one rate for all (saturates too early)" in page


def test_strategies_stand_beside_curves_of_plain_sampling() -> None:
    shared = {"n_problems": 4, "note": "", "low": 0.1, "high": 0.9}
    curve = [
        {"unit": unit, "method": method, "n": n, "bill": price * n, "accuracy": 0.1 * n, **shared}
        for unit, price in (("tokens", 30.0), ("dollars", 0.002))
        for method in ("majority", "coverage", "until_right")
        for n in (1, 2, 4)
    ]
    arm = {"arm": "beam", "n_equal": 3.0, "accuracy": 0.5, "baseline": 0.3, "difference": 0.2, **shared}
    unknown = {**arm, "n_equal": None, "bill": None, **dict.fromkeys(("baseline", "difference", "low", "high"))}
    compared = [
        {**arm, "unit": "tokens", "method": "majority", "bill": 90.0},
        {**arm, "unit": "dollars", "method": "majority", "bill": 0.006},
        {**unknown, "arm": "poor", "unit": "dollars", "method": "majority", "note": "the price of a role"},
    ]
    found = bills(frame(episodes.PlainCurve, curve).collect(), frame(episodes.EqualBill, compared).collect())
    assert [chart.title for chart in found] == [
        "Strategies against tokens read and written",
        "Strategies against dollars",
    ]
    assert all("beam" in chart.svg and "poor" not in chart.svg for chart in found)
    assert found[1].rows == [
        ("beam", "majority", "$0.006", "3.0", "50.0%", "30.0%", "+20.0", "+10.0 to +90.0", ""),
        ("poor", "majority", "unknown", "", "50.0%", "", "", "", "the price of a role"),
    ]
    assert [label for _, label in found[0].legend] == ["majority", "coverage: some sample is right"]
    given = tables() | {"curve": frame(episodes.PlainCurve, curve), "compared": frame(episodes.EqualBill, compared)}
    stages = [
        *manifest().stages,
        *[
            manifest().stages[-1].model_copy(update={"name": name, "dataset": dataset})
            for name, dataset in (("curve", "plain_curve"), ("compared", "equal_bill"))
        ],
    ]
    assert "Strategies against dollars" in Page(render(manifest(stages=stages), given)).text
