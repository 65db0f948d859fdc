"""The view's index: the same as reading everything, whatever order things are committed in, and what filters find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.records.reader import open_stage
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from jobs.view import figures
from jobs.view.filters import described, read_filter
from jobs.view.index import COLUMNS, Index, hashed
from jobs.view.problems import page, problem, table
from jobs.view.samples import RunSamples
from jobs.view.search import search
from jobs.view.slots import Places
from jobs.view.tables import TableSamples
from jobs.view.watched import Watched
from schemas.errors import BadInput
from tests.support import run, scripted_pipeline, write_problems

N = 12
PROBLEMS = 7


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of a few commits: 7 problems, 12 samples of each, some of them refused."""
    folder = tmp_path_factory.mktemp("view")
    answers = ("0", "1", "2", "<b>2</b>", "so it is 1, I think")
    pipeline = scripted_pipeline(write_problems(folder / "p.jsonl", PROBLEMS), N, answers=answers)
    return run(LocalRunner(), pipeline, folder / "root")


@pytest.fixture
def watched(result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = Watched(result.root, result.manifest.run_id)
    found.look()
    yield found
    found.close()


def everything(result: RunResult) -> pl.DataFrame:
    keys = ["problem_key", "sample_index"]
    samples = open_stage(result.root, result.manifest, "sample")
    verdicts = open_stage(result.root, result.manifest, "verify").select(*keys, "is_correct", "answer_key", "status")
    return samples.join(verdicts, on=keys, how="left", suffix="_verdict").sort(keys).drop("slot").collect()


def test_filters_find_what_reading_everything_finds(watched: Watched, result: RunResult) -> None:
    rows = everything(result)
    index, places = watched.open()
    assert len(places) == len(rows) == PROBLEMS * N
    right, tokens = pl.col("is_correct").fill_null(False), pl.col("completion_tokens")
    key = rows["problem_key"][30]
    cases: list[tuple[dict[str, str], pl.Expr]] = [
        ({}, pl.lit(True)),
        ({"verdict": "right"}, right),
        ({"verdict": "right,wrong,unparseable"}, pl.col("is_correct").is_not_null()),
        (
            {"verdict": "wrong", "tokens": "2.."},
            ~pl.col("is_correct") & (pl.col("status_verdict") == "ok") & (tokens >= 2),
        ),
        ({"answer": "2"}, pl.col("answer_key") == "2"),
        ({"problem": key}, pl.col("problem_key") == key),
        ({"problem": "none such"}, pl.lit(False)),
        ({"finish": "stop"}, pl.col("finish_reason") == "stop"),
        ({"trained": "no"}, pl.lit(True)),
        ({"verdict": "no such verdict"}, pl.lit(False)),
    ]
    for asked, expected in cases:
        wanted = read_filter(asked, index, places)
        slots = rows.with_row_index("slot").filter(expected)["slot"].to_list()
        assert wanted.page(index, -1, 1000).tolist() == slots, asked
        assert wanted.count(index) == len(slots)
        assert wanted.at(index, np.arange(len(rows))).tolist() == [at in slots for at in range(len(rows))]
        walked: list[int] = []
        while len(some := wanted.page(index, walked[-1] if walked else -1, 5)):
            walked += some.tolist()
        assert walked == slots
    with pytest.raises(BadInput):
        read_filter({"tokens": "many"}, index, places)


def test_sorted_pages_are_the_whole_in_order(watched: Watched, result: RunResult) -> None:
    rows = everything(result).with_row_index("slot")
    index, places = watched.open()
    wanted = read_filter({}, index, places)
    for descending in (True, False):
        expected = rows.sort("completion_tokens", "slot", descending=[descending, False])["slot"].to_list()
        pages = [wanted.sorted_page(index, "tokens", descending, at, 10).tolist() for at in range(0, len(rows), 10)]
        assert [slot for page_of in pages for slot in page_of] == expected


def test_what_lines_texts_and_one_sample_say(watched: Watched, result: RunResult) -> None:
    rows = everything(result)
    samples = RunSamples(watched)
    slots = np.array([3, 40, 41, 83])
    texts = samples.texts(slots)
    for line in samples.lines(slots):
        row = rows.row(line["slot"], named=True)
        assert (line["problem_id"], line["sample_index"]) == (row["problem_id"], row["sample_index"])
        assert texts[line["slot"]]["text"] == row["completion"]
        whole = samples.sample(line["slot"])
        assert whole["sample"]["completion"] == row["completion"]
        assert whole["problem"]["prompt"].startswith("What is")
        assert [one["is_correct"] for one in whole["verdicts"]] == [row["is_correct"]]
    assert samples.sample(len(rows)) == {} and samples.sample(-1) == {}


def test_the_problems_are_what_their_samples_come_to(watched: Watched, result: RunResult) -> None:
    rows = everything(result)
    found = table(watched)
    expected = rows.group_by("problem_key").agg(
        drawn=pl.len(), right=pl.col("is_correct").sum(), distinct=pl.col("answer_key").drop_nulls().n_unique()
    )
    assert (
        found.select("problem_key", "drawn", "right", "distinct")
        .cast(pl.String)
        .equals(expected.sort("problem_key").cast(pl.String))
    )
    for key, some in rows.group_by("problem_key"):
        shares = some["answer_key"].drop_nulls().value_counts()["count"].to_numpy() / some["answer_key"].count()
        entropy = found.filter(pl.col("problem_key") == key[0])["entropy"].item()
        assert entropy == pytest.approx(float(-(shares * np.log2(shares)).sum()))
    shown = page(watched, {"rate": "0.3..1", "sort": "rate"})
    rates = [one["rate"] for one in shown["problems"]]
    assert rates == sorted(rates, reverse=True) and all(rate >= 0.3 for rate in rates)
    assert sum(shown["histograms"]["rate"]["counts"]) == shown["total"] == len(rates)
    assert [one["problem_id"] for one in page(watched, {"text": "p3"})["problems"]] == ["p3"]
    one = problem(watched, rows["problem_key"][0])
    assert sum(group["votes"] for group in one["groups"]) == N == len(one["slots"])
    assert {method["method"] for method in one["methods"]} == {"majority"}


def test_search_finds_every_text_and_nothing_else(watched: Watched, result: RunResult) -> None:
    rows = everything(result).with_row_index("slot")
    index, places = watched.open()

    def hits(text: str, regex: bool = False, **asked: str) -> list[int]:
        found = search(RunSamples(watched), index, read_filter(asked, index, places), text, regex)
        return sorted(hit["slot"] for step in found for hit in step["hits"])

    def slots(expected: pl.Expr) -> list[int]:
        return rows.filter(expected)["slot"].to_list()

    tagged = pl.col("completion").str.contains("<b>2</b>", literal=True)
    assert hits("<B>2</b>") == slots(tagged) != []
    assert hits("<b>2</b>", verdict="right") == slots(tagged & pl.col("is_correct").fill_null(False))
    assert hits("i.*think", regex=True) == slots(pl.col("completion").str.contains("think"))
    assert hits("i.*think") == []
    with pytest.raises(BadInput):
        hits("(", regex=True)


def test_an_index_is_kept_and_made_again_when_it_must_be(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {
        path: path.stat().st_mtime_ns for path in Path(result.root.url).rglob("*") if "catalogue" not in path.name
    }
    first = Watched(result.root, result.manifest.run_id)
    first.look()
    columns = {name: first.open()[0].read(name) for name in COLUMNS}
    second = Watched(result.root, result.manifest.run_id)  # while the first has it
    second.look()
    assert second.open()[0].folder != first.open()[0].folder
    second.close()
    first.close()
    third = Watched(result.root, result.manifest.run_id)
    third.look()
    assert third.filler is not None and third.filler.total == 0, "nothing was to be read again"
    for name, column in columns.items():
        np.testing.assert_array_equal(third.open()[0].read(name), column)
    assert third.totals() == first.totals()
    third.close()
    after = {path: path.stat().st_mtime_ns for path in Path(result.root.url).rglob("*") if "catalogue" not in path.name}
    assert after == before, "a view writes nothing to the root"


def test_commits_in_any_order_come_to_the_same(result: RunResult, watched: Watched, tmp_path: Path) -> None:
    """Verdicts before their samples, pieces twice: every row lands where it belongs, and the sums hold."""
    from jobs.view.filling import Filler

    index, places = watched.open()
    again = Index("another", len(places))
    filler = Filler(result.root, watched.manifest, "sample", again, places, lambda: None)
    verdicts = open_stage(result.root, result.manifest, "verify").collect()
    samples = open_stage(result.root, result.manifest, "sample").collect()
    pieces: list[tuple[Any, pl.DataFrame]] = []
    for at in (4, 1, 3, 0, 2, 3):
        pieces.append((filler._fill_verdicts, verdicts[at::5]))
        pieces.append((filler._fill_samples, samples[at::5]))
    for fill, rows in pieces:
        fill(rows.lazy())
    filler._take_snapshots()
    for name in COLUMNS:
        if name not in ("finish", "model", "kept"):
            np.testing.assert_array_equal(again.read(name), index.read(name))
    slots = np.arange(len(places))
    assert described(again, slots) == described(index, slots)
    assert filler.tally.sums["right"].tolist() == table(watched)["right"].to_list()
    again.close()


def test_places_of_views_with_gaps() -> None:
    ranges = pl.DataFrame({"problem_key": ["b", "a", "b", "c"], "first": [10, 0, 0, 5], "count": [2, 3, 1, 0]})
    places = Places(ranges)
    assert len(places) == 6 and places.keys.to_list() == ["a", "b"]
    rows = pl.LazyFrame({"problem_key": ["a", "a", "b", "b", "b", "c", "z"], "sample_index": [0, 3, 0, 11, 5, 5, 0]})
    assert places.of(rows).sort("slot").collect()["slot"].to_list() == [0, 3, 5]
    assert places.problems(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    assert places.indices(np.arange(6)).tolist() == [0, 1, 2, 0, 10, 11]
    assert [places.number(key) for key in ("a", "b", "c", "zz", "")] == [0, 1, None, None, None]
    assert [places.slot("b", at) for at in (0, 1, 10, 11, 12)] == [3, None, 4, 5, None]


def test_figures_agree_with_the_run_s_own_operators(watched: Watched, result: RunResult) -> None:
    from operators.measure.pass_at_k import PassAtK

    own = PassAtK().run(verdicts=open_stage(result.root, result.manifest, "verify"))
    sums = watched.filler.tally.sums if watched.filler else {}
    found = figures.coverage(sums["judged"], sums["right"])
    assert [row["k"] for row in found] == own["k"].to_list()
    np.testing.assert_allclose([row["coverage"] for row in found], own["coverage"].to_numpy())
    assert all(row["low"] <= row["coverage"] <= row["high"] for row in found)
    vote = figures.accuracy(watched.answers())
    assert vote is not None and 0 <= vote["low"] <= vote["accuracy"] <= vote["high"] <= 1
    assert hashed("") != 0


def test_a_bare_table_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "rows"
    folder.mkdir()
    for part in range(2):
        pl.DataFrame(
            {
                "id": [f"q{part}{at}" for at in range(5)],
                "response": [f"text {part} {at} <i>odd</i>" for at in range(5)],
                "correct": [True, False, None, True, False],
                "answer": [1, 2, 2, None, 3],
                "tokens": [3, 4, 5, 6, None],
                "other": [{"deep": [at]} for at in range(5)],
            }
        ).write_parquet(folder / f"{part}.parquet")
    samples = TableSamples(folder)
    samples.fill()
    assert samples.index is not None and samples.text == "response"
    index, places = samples.index, samples.places
    assert read_filter({"verdict": "right"}, index, places).page(index, -1, 10).tolist() == [0, 3, 5, 8]
    assert read_filter({"answer": "2"}, index, places).page(index, -1, 10).tolist() == [1, 2, 6, 7]
    assert read_filter({"tokens": "5.."}, index, places).count(index) == 4
    assert samples.texts(np.array([7]))[7] == {"text": "text 1 2 <i>odd</i>", "said": "2", "name": "q12"}
    assert samples.sample(7)["columns"]["other"] == {"deep": [2]}
    found = [
        hit["slot"]
        for step in search(samples, index, read_filter({}, index, places), "1 3", False)
        for hit in step["hits"]
    ]
    assert found == [8]
    index.close()
    with pytest.raises(BadInput):
        TableSamples(tmp_path / "cache")
    pl.DataFrame({"number": [1]}).write_parquet(tmp_path / "none.parquet")
    with pytest.raises(BadInput):
        TableSamples(tmp_path / "none.parquet")
