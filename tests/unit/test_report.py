"""The report: right numbers, nothing a model wrote becomes markup, one file, and gaps leave sections out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from jobs.report.bills import bills
from jobs.report.browser import MAX_PROBLEMS, MAX_SAMPLES, MAX_TEXT, browse, embed
from jobs.report.build import render
from jobs.report.collect import Source
from jobs.report.format import compact, duration, interval, wilson
from schemas import datasets, episodes, measures
from schemas.contract import Contract, polars_schema
from schemas.manifest import RunManifest, StageRecord

EVIL = "</script><script>alert('x')</script>\u2028<!-- <img src=http://evil.test/x.png>"
VOID = {"meta", "link", "br", "img", "input", "hr"}
STAGES = {
    "load": "problems",
    "sample": "samples",
    "verify": "verdicts",
    "select": "answers",
    "coverage": "pass_at_k",
    "accuracy": "selection_accuracy",
    "sft": "sft",
}


def frame(contract: type[Contract], rows: list[dict[str, Any]]) -> pl.LazyFrame:
    """The contract's columns; null where a row doesn't say (the report reads few of them)."""
    schema = polars_schema(contract)
    return pl.LazyFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def manifest(**changes: Any) -> RunManifest:
    stages = [
        StageRecord(
            name=name,
            operator=f"operator.{name}",
            dataset=dataset,
            kind="store" if dataset in ("samples", "verdicts") else "snapshot",
            path=name,
            view_id="v",
            planned=40,
            reused=10,
            computed=30,
            seconds=20.0,
            completion_tokens=3000 if name == "sample" else 0,
            complete=True,
        )
        for name, dataset in STAGES.items()
    ]
    started = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    fields: dict[str, Any] = {
        "run_id": "arithmetic-20260304-050600-ab12",
        "pipeline": "arithmetic",
        "state": "done",
        "started": started,
        "finished": started + timedelta(seconds=75),
        "command": "gristmill run arithmetic --set 'sample.stop=[\"<end>\"]'",
        "runner": "local",
        "config": {"sample": {"operator": "sample", "template": EVIL, "n": 10}},
        "versions": {"gristmill": "0.1.0", "polars": "9.8.7"},
        "stages": stages,
        "n_problems": 4,
    }
    return RunManifest(**{**fields, **changes})


def tables(problems: int = 4, n: int = 10) -> dict[str, pl.LazyFrame]:
    """Problem i of 4 has right samples at the indices below ``n * i / 4``; right ones have 10 tokens, wrong ones 30."""
    keys = [{"problem_key": f"k{i:03}", "problem_id": f"problem-{i}"} for i in range(problems)]
    samples: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for i, key in enumerate(keys):
        for j in range(n):
            right, judged = j < n * (i % 4) / 4, j < n - 1
            tokens = {"prompt_tokens": 5, "completion_tokens": 10 if right else 30}
            said = {"completion": f"{j} {EVIL}", "status": "ok", "finish_reason": "stop"}
            samples.append({**key, "sample_index": j, **said, **tokens})
            verdict = {"is_correct": right if judged else None, "status": "ok" if judged else "timeout"}
            verdicts.append({**key, "sample_index": j, "predicted_answer": str(j), **verdict})
    curve = [(1, 0.4, 0.2, 0.6), (10, 0.75, 0.5, 0.9)]
    note = "Bootstrap over 4 problems & few samples."
    covered = [{"k": k, "coverage": c, "low": lo, "high": hi, "n_problems": 4, "note": note} for k, c, lo, hi in curve]
    chosen = [{"n": k, "method": "majority", "accuracy": c, "low": lo, "high": hi} for k, c, lo, hi in curve]
    vote = {"method": "majority", "answer": "<b>7</b>", "confidence": 0.5, "n_samples": n}
    return {
        "load": frame(datasets.Problem, [{**key, "prompt": EVIL, "answer": "42"} for key in keys]),
        "sample": frame(datasets.Sample, samples),
        "verify": frame(datasets.Verdict, verdicts),
        "select": frame(datasets.Answer, [{**key, **vote, "is_correct": i > 1} for i, key in enumerate(keys)]),
        "coverage": frame(measures.PassAtK, covered),
        "accuracy": frame(measures.SelectionAccuracy, chosen),
        "sft": frame(datasets.Sft, [{**key, "sample_index": 0} for key in keys[1:]]),
    }


class Page(HTMLParser):
    """Checks that elements nest; collects scripts, attributes, element names and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += " " + data


def test_pages_may_run_their_own_script_and_nothing_else() -> None:
    page = Page(render(manifest(), tables()))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    [policy] = [value for name, value in page.attributes if name == "content" and "default-src" in (value or "")]
    assert policy is not None
    assert {"default-src 'none'", f"script-src 'sha256-{digest}'"} <= {part.strip() for part in policy.split(";")}
    bare = render(manifest(stages=[]), {})
    assert "default-src &#39;none&#39;" in bare and "script-src" not in bare
    assert bare.index("Content-Security-Policy") < bare.index("<title>")


def headings(page: Page) -> int:
    return page.names.count("h2")


def test_page_is_well_formed_and_tells_the_run() -> None:
    page = Page(render(manifest(), tables()))
    text = re.sub(r"\s+", " ", page.text)
    for said in (
        "arithmetic done",
        "4 March 2026, 05:06 UTC, took 1 min 15 s",
        "pass@1 40.0% 95% interval 20.0\u201360.0% n = 4 problems",
        "pass@10 75.0% 95% interval 50.0\u201390.0% n = 4 problems",
        "Majority of 10 75.0% 95% interval 50.0\u201390.0% n = 4 problems",
        "Tokens per second 150",
        "SFT rows 3",
        "Bootstrap over 4 problems & few samples.",
        "n = 40 verdicts",
        "n = 4 problems with verdicts",
        "never right: 1 (25.0%)",
        "10 reused, 30 computed of 40 rows",
        "gristmill run arithmetic --set 'sample.stop=[\"<end>\"]'",
        "arithmetic-20260304-050600-ab12",
        "9.8.7",
    ):
        assert said in text, said
    assert headings(page) == 5
    assert page.names.count("svg") == 5
    assert all(name in dict(page.attributes) for name in ("viewbox", "aria-label"))


def test_lengths_are_told_for_right_and_wrong() -> None:
    # Right: 0 + 3 + 5 + 8 of 10; the last sample of each problem has no verdict.
    text = Page(render(manifest(), tables())).text
    assert "right: n = 16, median 10" in text
    assert "wrong: n = 20, median 30" in text


def test_text_of_models_never_becomes_markup() -> None:
    html = render(manifest(error=EVIL, command=EVIL, pipeline=EVIL), tables())
    page = Page(html)
    assert len(page.scripts) == 2
    assert not any("alert(" in script for script in page.scripts[1:])
    assert "img" not in page.names and "b" not in page.names
    samples = json.loads(page.scripts[0])
    assert samples[0]["prompt"] == EVIL
    assert samples[0]["samples"][0]["text"].endswith(EVIL)
    assert "<" not in page.scripts[0] and "\u2028" not in page.scripts[0]


def test_embedded_json_reads_back() -> None:
    value = {"a": [EVIL, "\u2029 & > \\u003c", None, True, 0.5]}
    text = embed(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_page_needs_nothing_from_elsewhere() -> None:
    html = render(manifest(), tables())
    page = Page(html)
    assert not [pair for pair in page.attributes if pair[0] in ("src", "href", "xlink:href", "srcset", "action")]
    assert "link" not in page.names and "iframe" not in page.names
    styles = "".join(re.findall(r"<style>.*?</style>", html, re.DOTALL))
    assert "@import" not in styles and "url(" not in styles and "http" not in styles
    assert "http" not in page.scripts[1] and "fetch" not in page.scripts[1]


def test_same_run_renders_the_same() -> None:
    assert render(manifest(), tables()) == render(manifest(), tables())


@pytest.mark.parametrize("missing", list(STAGES))
def test_any_stage_may_be_missing_or_empty(missing: str) -> None:
    whole = tables()
    empty = {**whole, missing: frame(datasets.DATASETS[STAGES[missing]], [])}
    absent = {name: rows for name, rows in whole.items() if name != missing}
    for given in (empty, absent):
        Page(render(manifest(), given))


def test_run_without_any_rows_shows_its_error() -> None:
    run = manifest(
        state="failed", error="no such <model>", finished=None, stages=[], config={}, versions={}, command=""
    )
    page = Page(render(run, {}))
    assert "no such <model>" in page.text and "failed" in page.text
    assert page.scripts == [] and headings(page) == 1


def test_tables_without_columns_are_left_out() -> None:
    page = Page(render(manifest(), {name: pl.LazyFrame() for name in STAGES}))
    assert page.scripts == [] and headings(page) == 2


def test_samples_without_verdicts_are_browsed_undecided() -> None:
    given = {name: rows for name, rows in tables().items() if name in ("load", "sample")}
    page = Page(render(manifest(), given))
    samples = json.loads(page.scripts[0])
    assert [len(problem["samples"]) for problem in samples] == [MAX_SAMPLES] * 4
    assert {row["correct"] for problem in samples for row in problem["samples"]} == {None}


def test_browser_is_capped_and_says_so() -> None:
    given = tables(problems=100, n=20)
    given["sample"] = given["sample"].with_columns(pl.lit("x" * (MAX_TEXT + 9)).alias("completion"))
    found = browse(Source(manifest(), given))
    assert found is not None
    problems, note = found
    assert len(problems) == MAX_PROBLEMS
    rates = [problem["right"] / problem["judged"] for problem in problems]
    assert rates == sorted(rates) and rates[0] == 0 and rates[-1] > 0.7
    for problem in problems:
        sides = [row["correct"] for row in problem["samples"]]
        assert sides.count(True) <= MAX_SAMPLES and sides.count(False) <= MAX_SAMPLES
        assert all(len(row["text"]) < MAX_TEXT + 9 for row in problem["samples"])
    shown = sum(len(problem["samples"]) for problem in problems)
    assert "60 of 100 problems" in note and f"{shown} of 2,000 samples" in note


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


def said(manifest_: RunManifest, given: dict[str, pl.LazyFrame]) -> str:
    return re.sub(r"\s+", " ", Page(render(manifest_, given)).text)


def test_the_best_selection_stands_beside_the_majority_with_what_both_answer() -> None:
    given = tables()
    votes = given["select"].collect()
    better = votes.with_columns(method=pl.lit("rpc"), is_correct=pl.Series([True, True, True, False]))
    worse = votes.with_columns(method=pl.lit("top_two"), is_correct=False, calibration=pl.lit("uncalibrated"))
    text = said(manifest(), {**given, "select": pl.concat([votes, worse, better]).lazy()})
    assert (
        "Best selection: rpc 75.0% 95% interval 30.1\u201395.4% n = 4 problems; +25.0 points from the majority" in text
    )
    assert "the best of 2 after the fact" in text
    for question in ("How often the most frequent answer is right", "How often at least one of 10 samples is right"):
        assert question in text
    assert "Best selection" not in said(manifest(), given)


def test_right_samples_without_training_rows_have_a_reason() -> None:
    """Sixteen are right: copies of the first text, one truncated, one that failed, and what is beyond."""
    given = tables()
    first, last = pl.col("sample_index") == 1, pl.col("sample_index") == 2
    samples = given["sample"].with_columns(
        finish_reason=pl.when(first).then(pl.lit("length")).otherwise("finish_reason"),
        status=pl.when(last).then(pl.lit("error")).otherwise("status"),
        completion_hash=pl.when(pl.col("sample_index") < 4).then(0).otherwise(pl.col("sample_index")),
    )
    text = said(manifest(), {**given, "sample": samples})
    assert "16 right samples gave 3 training rows." in text
    for reason in (
        "truncated 3",
        "the sample failed 3",
        "the same text as another 2",
        "left out by the stage's settings 5",
    ):
        assert reason in text, reason
    chosen = (
        given["sample"]
        .select("problem_key", "sample_index", "problem_id")
        .with_columns(weight=0.0, kept=False, reason=pl.lit("problem solved too often"))
    )
    stage = manifest().stages[0].model_copy(update={"name": "choose", "dataset": "paths"})
    text = said(manifest(stages=[*manifest().stages, stage]), {**given, "choose": chosen, "sft": given["sft"].head(0)})
    assert "16 right samples gave 0 training rows." in text and "problem solved too often 16" in text
    nothing = given["verify"].with_columns(is_correct=False)
    assert "no sample was found right" in said(manifest(), {**given, "verify": nothing})


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


def test_numbers_are_formatted_for_people() -> None:
    assert [compact(n) for n in (999, 12345, 123456, 1234567, 9.87e9)] == ["999", "12,345", "123k", "1.23M", "9.87B"]
    said = [duration(s).replace("\u00a0", " ") for s in (0.25, 59.7, 75, 7260)]
    assert said == ["0.2 s", "1 min 00 s", "1 min 15 s", "2 h 01 min"]
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


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
