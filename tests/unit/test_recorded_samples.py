"""``gristmill op`` on files of all kinds: other tools' samples, ids that stay what they are, golds that are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs.looking.golds import check_golds
from jobs.looking.op import run_op
from operators.load import Load
from schemas.errors import BadInput, StageFailed

Row = dict[str, Any]
PROBLEMS = [{"id": "007", "question": "2+2?", "answer": "4"}, {"id": "008", "question": "3+3?", "answer": "6"}]


def lines(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def judged(
    folder: Path, *inputs: str, told: list[str] | None = None, **settings: Any
) -> list[tuple[str, int, bool | None, str]]:
    """Return (problem_id, sample_index, is_correct, status) of verify.exact; ``told`` gets what there is to tell."""
    tell = (told if told is not None else []).append
    fields = {"extract": ["whole"], **settings}
    found = run_op("verify.exact", list(inputs), str(folder / "out.jsonl"), fields, tell=tell)
    return [(r["problem_id"], r["sample_index"], r["is_correct"], r["status"]) for r in found.to_dicts()]


def choice(text: Any, **more: Any) -> Row:
    return {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": "stop"}


def test_ids_of_a_csv_file_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("problem_id,completion\n007,4\n008,5\n")
    problems = lines(tmp_path / "p.jsonl", PROBLEMS)
    found = judged(tmp_path, f"samples={tmp_path / 's.csv'}", f"problems={problems}")
    assert found == [("007", 0, True, "ok"), ("008", 0, False, "ok")]


def test_samples_of_problems_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    problems = lines(tmp_path / "p.jsonl", PROBLEMS)
    samples = lines(tmp_path / "s.jsonl", [{"id": "7", "completion": "4"}, {"id": "008", "completion": "6"}])
    with pytest.raises(BadInput, match=r"1 of 2 samples .* aren't in .*: '7'; the problems there are '007', '008'"):
        judged(tmp_path, f"samples={samples}", f"problems={problems}")


@pytest.mark.parametrize(
    ("row", "completions"),
    [
        ({"response": {"status_code": 200, "body": {"choices": [choice("4"), choice("5")]}}, "error": None}, 2),
        ({"response": {"status_code": 200, "body": {"choices": [choice([{"type": "text", "text": "4"}])]}}}, 1),
        ({"response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": None}, 0),
        ({"response": None, "error": {"code": "batch_expired"}}, 0),
        ({"response": {"status_code": 500, "body": {"error": {"message": "oh"}}}, "error": None}, 0),
        ({"response": {"status_code": "503", "body": "Service unavailable"}}, 0),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, 0),
    ],
)
def test_batch_outputs_of_servers(tmp_path: Path, row: Row, completions: int) -> None:
    samples = lines(tmp_path / "s.jsonl", [{"id": "r1", "custom_id": "007", **row}])
    told: list[str] = []
    found = judged(tmp_path, f"samples={samples}", f"problems={lines(tmp_path / 'p.jsonl', PROBLEMS)}", told=told)
    assert any("1 row whose request failed" in sentence for sentence in told) == (not completions)
    if completions:
        assert found[0] == ("007", 0, True, "ok") and len(found) == completions
    else:
        assert found == [("007", 0, None, "skipped")]


def test_samples_of_an_evaluation_harness(tmp_path: Path) -> None:
    row: Row = {"doc_id": 0, "doc": {"q": "2+2?"}, "target": "4", "arguments": [["Q: 2+2?", {"until": ["\n"]}]]}
    assert judged(tmp_path, lines(tmp_path / "s.jsonl", [{**row, "resps": [["4", "5"]], "filtered_resps": ["4"]}])) == [
        ("0", 0, True, "ok"),
        ("0", 1, False, "ok"),
    ]
    with pytest.raises(BadInput, match=r"row 1: .*likelihoods of options, not texts"):
        judged(tmp_path, lines(tmp_path / "s.jsonl", [{**row, "resps": [[["-1.5", "False"]]]}]))


def test_completions_that_several_filters_read_count_once(tmp_path: Path) -> None:
    rows = [
        {"doc_id": doc, "target": "4", "arguments": [["Q", {}]], "resps": [["4", "5"]], "filter": name}
        for name in ("strict-match", "flexible-extract")
        for doc in (0, 1)
    ]
    told: list[str] = []
    found = judged(tmp_path, lines(tmp_path / "s.jsonl", rows), told=told)
    assert [row[:3] for row in found] == [("0", 0, True), ("0", 1, False), ("1", 0, True), ("1", 1, False)]
    assert "2 rows left out: another filter's reading" in told[0]


def test_logs_of_inspect(tmp_path: Path) -> None:
    output: Row = {"model": "m", "choices": [{"message": {"role": "assistant", "content": "4"}, "stop_reason": "stop"}]}
    sample: Row = {"id": 1, "input": "2+2?", "target": "4", "output": output, "scores": {"match": "C"}}
    log = {
        "version": 2,
        "eval": {"task": "t"},
        "samples": [{**sample, "epoch": 2}, {**sample, "epoch": 1}],
        "stats": {},
    }
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert judged(tmp_path, str(tmp_path / "log.json")) == [("1", 0, True, "ok"), ("1", 1, True, "ok")]


@pytest.mark.parametrize("name", ["generation", "response", "model_output", "prediction"])
def test_completions_under_another_name_without_ids(tmp_path: Path, name: str) -> None:
    rows = [{"problem": "2+2?", "expected_answer": "4", name: text} for text in ("4", "5")]
    rows.append({"problem": "3+3?", "expected_answer": "6", name: "6"})
    found = judged(tmp_path, lines(tmp_path / "s.jsonl", rows))
    assert sorted((index, right) for _, index, right, _ in found) == [(0, True), (0, True), (1, False)]


def test_several_completions_in_a_row(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "2+2?", "answer": "4", "responses": ["4", "5", "4"]}]
    assert [right for _, _, right, _ in judged(tmp_path, lines(tmp_path / "s.jsonl", rows))] == [True, False, True]


def test_a_column_or_a_place_in_one_is_named(tmp_path: Path) -> None:
    problems = f"problems={lines(tmp_path / 'p.jsonl', PROBLEMS)}"
    samples = f"samples={lines(tmp_path / 's.jsonl', [{'id': '007', 'says': {'parts': ['x', '4']}, 'why': '5'}])}"
    with pytest.raises(BadInput, match=r"no completions: found .*'says'.*--set columns.completion=NAME"):
        judged(tmp_path, samples, problems)
    assert judged(tmp_path, samples, problems, columns={"completion": "says.parts.1"}) == [("007", 0, True, "ok")]
    assert judged(tmp_path, samples, problems, columns={"samples": {"completion": "why"}}) == [("007", 0, False, "ok")]
    with pytest.raises(BadInput, match=r"row 1: 'says.parts.2': there is no '2'"):
        judged(tmp_path, samples, problems, columns={"completion": "says.parts.2"})


def test_nested_columns_are_written_as_json_where_a_file_has_no_lists(tmp_path: Path) -> None:
    lines(tmp_path / "p.jsonl", [{"messages": [{"role": "user", "content": "Q"}], "answer": "1"}])
    run_op("load", [str(tmp_path / "p.jsonl")], str(tmp_path / "out.csv"), {})
    [row] = pl.read_csv(tmp_path / "out.csv").to_dicts()
    assert json.loads(row["messages"])[0]["content"] == "Q"


def test_golds_are_checked_before_anything_is_paid(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"id": "ok", "question": "a", "answer": "42"},
        {"id": "two", "question": "b", "answer": ["1", "2"]},
        {"id": "prose", "question": "c", "answer": "Because the sum of two odd numbers is even"},
        {"id": "none", "question": "d", "answer": ""},
        {"id": "pick", "question": "e", "choices": ["x", "y"], "answer": "y"},
        {"id": "torn", "question": "f", "answer": "{{{"},
        {"id": "mark", "question": "g", "answer": "Add.\n#### "},
        {"id": "bare", "question": "h", "answer": "Add 3 and 4 so it is 7"},
        {"id": "steps", "question": "i", "answer": "He has 3+4=<<3+4=7>>7 pears.\nSo 7."},
        {"id": "word", "question": "j", "answer": "#### seven"},
        {"id": "unit", "question": "k", "answer": "2 hours and 30 minutes"},
        {"id": "sine", "question": "l", "answer": "2 sin x + log 3"},
        {"id": "code", "question": "m", "verification": {"code": {"tests": "assert f() == 1"}}},
    ]
    golds, told = check_golds(Load(source=lines(tmp_path / "p.jsonl", rows)), None)
    kinds = {gold.problem_id: gold.kind for gold in golds}
    assert kinds == {
        "ok": "read",
        "two": "read",
        "prose": "word for word",
        "none": "none",
        "pick": "read",
        "torn": "unread",
        "mark": "none",
        "bare": "word for word",
        "steps": "word for word",
        "word": "word for word",
        "unit": "read",
        "sine": "read",
        "code": "tests",
    }
    assert [gold.row for gold in golds] == [1, 2, *range(2, 14)]
    assert any("2 of 13 problems have no answer" in sentence for sentence in told)
    with pytest.raises(BadInput, match=r"measure.pass_at_k doesn't compare"):
        check_golds(Load(source=str(tmp_path / "p.jsonl")), "measure.pass_at_k")


def test_loading_tells_what_a_run_tells(tmp_path: Path) -> None:
    told: list[str] = []
    rows: list[Row] = [{"question": "a", "answer": "1"}, {"question": "b", "answer": None}]
    run_op("load", [lines(tmp_path / "p.jsonl", rows)], str(tmp_path / "out.jsonl"), {}, tell=told.append)
    assert told == ["1 of 2 problems have no answer (the first is row 2): they are sampled, and not judged"]


def test_samples_that_nothing_could_judge_are_an_error_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def check(completion, answer, problem):\n    return {'4': True}[completion]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    problems = f"problems={lines(tmp_path / 'p.jsonl', [*PROBLEMS, {'id': '9', 'question': 'x'}])}"
    told: list[str] = []

    def verify(*texts: str) -> pl.DataFrame:
        samples = lines(tmp_path / "s.jsonl", [{"id": "007", "completion": text} for text in texts])
        out = str(tmp_path / "v.jsonl")
        inputs = [f"samples={samples}", problems]
        return run_op("verify.function", inputs, out, {"function": "mine:check"}, tell=told.append)

    with pytest.raises(StageFailed, match=r"none of 2 samples could be judged, the first of problem '007': KeyError"):
        verify("5", "6")
    assert len(pl.read_ndjson(tmp_path / "v.jsonl")) == 2
    verify("4", "6")
    assert "1 of 2 samples couldn't be judged, the first of problem '007': KeyError: '6'" in told[0]
    assert told[1] == "1 of 3 problems have no answer (the first is '9')"
