"""The report: right numbers, nothing a model wrote becomes markup, one file, and gaps leave sections out."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import polars as pl
import pytest

from jobs.report.browser import MAX_PROBLEMS, MAX_SAMPLES, MAX_TEXT, browse, embed
from jobs.report.build import render
from jobs.report.collect import Source
from jobs.report.format import compact, duration, wilson
from schemas import datasets
from tests.report_page import EVIL, STAGES, Page, frame, headings, manifest, said, tables


def test_pages_may_run_their_own_script_and_nothing_else() -> None:
    page = Page(render(manifest(), tables()))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    [policy] = [value for name, value in page.attributes if name == "content" and "default-src" in (value or "")]
    assert policy is not None
    assert {"default-src 'none'", f"script-src 'sha256-{digest}'"} <= {part.strip() for part in policy.split(";")}
    bare = render(manifest(stages=[]), {})
    assert "default-src &#39;none&#39;" in bare and "script-src" not in bare
    assert bare.index("Content-Security-Policy") < bare.index("<title>")


def test_page_is_well_formed_and_tells_the_run() -> None:
    page = Page(render(manifest(), tables()))
    text = re.sub(r"\s+", " ", page.text)
    for words in (
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
        assert words in text, words
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


def test_numbers_are_formatted_for_people() -> None:
    assert [compact(n) for n in (999, 12345, 123456, 1234567, 9.87e9)] == ["999", "12,345", "123k", "1.23M", "9.87B"]
    said = [duration(s).replace("\u00a0", " ") for s in (0.25, 59.7, 75, 7260)]
    assert said == ["0.2 s", "1 min 00 s", "1 min 15 s", "2 h 01 min"]
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
