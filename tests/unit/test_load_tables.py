"""Tables as programs write them: CSV with other separators or broken rows, JSON by columns and by ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from operators.load import Load
from operators.load.checks import Notes
from schemas.errors import BadInput


def load(path: Path, content: str) -> tuple[list[tuple[str, str | None]], str]:
    path.write_bytes(content.encode())
    notes = Notes()
    problems = Load(source=str(path)).read(notes)
    return list(problems.select("prompt", "answer").iter_rows()), "\n".join(notes.sentences())


@pytest.mark.parametrize(
    ("name", "content", "separator"),
    [
        ("p.csv", "id;question;answer\n1;Q, how?;5\n2;R;6\n", "semicolons"),
        ("p.csv", "question\tanswer\nQ, how?\t5\nR\t6\n", "tabs"),
        ("p.csv", "question|answer\r\nQ, how?|5\r\nR|6\r\n", "bars"),
        ("p.tsv", 'question,answer\n"Q, how?",5\nR,6\n', "commas"),
        ("p.csv", "sep=;\nquestion;answer\nQ, how?;5\nR;6\n", None),
        ("p.csv", 'question,answer\n"Q, how?",5\nR,6\n', None),
        ("p.tsv", "question\tanswer\nQ, how?\t5\nR\t6\n", None),
    ],
)
def test_what_separates_is_seen_in_the_first_line(
    tmp_path: Path, name: str, content: str, separator: str | None
) -> None:
    rows, told = load(tmp_path / name, content)
    assert rows == [("Q, how?", "5"), ("R", "6")]
    assert ("separated by" in told) == (separator is not None) and (separator or "") in told


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", "question,answer\nR,6\nQ,5,6\n", ["row 2 (line 3)", "3 fields", "names 2", "commas", "quotation"]),
        ("p.csv", 'question,answer\n"A\nB",5\nQ,5,6\n', ["row 2 (line 4)", "3 fields"]),
        ("p.csv", "question;answer\nR;6\nQ;5;6\n", ["row 2 (line 3)", "semicolons"]),
        ("p.tsv", "question\tanswer\nQ\t5\t7\n", ["row 1 (line 2)", "tabs"]),
        ("p.csv", 'question,answer\nZ,1\n"Q?,5\nR,6\n', ["row 2 (line 3)", "quotation marks don't match"]),
        ("p.csv", 'question,answer\nZ,1\n"5" wide",5\n', ["row 2 (line 3)", "quotation marks don't match", "doubled"]),
        ("p.csv", "question\nWhat, now?\n", ["row 1 (line 2)", "2 fields", "names 1"]),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_their_line(
    tmp_path: Path, name: str, content: str, words: list[str]
) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path / name, content)
    assert all(word in str(refused.value) for word in [name, *words]), refused.value
    assert "Schema" not in str(refused.value)


def test_short_rows_are_counted(tmp_path: Path) -> None:
    rows, told = load(tmp_path / "p.csv", "question,answer\nQ\nR,6\nS\n")
    assert rows == [("Q", None), ("R", "6"), ("S", None)]
    assert "2 rows with fewer fields than the first line names" in told and "row 1" in told


TWO = [("Q", "5"), ("R", "6")]


@pytest.mark.parametrize(
    "value",
    [
        {"question": {"0": "Q", "1": "R"}, "answer": {"0": "5", "1": "6"}},
        {"question": ["Q", "R"], "answer": ["5", "6"]},
        {"columns": ["question", "answer"], "index": [0, 1], "data": [["Q", "5"], ["R", "6"]]},
        {"a": {"question": "Q", "answer": "5"}, "b": {"question": "R", "answer": "6"}},
        {"0": {"id": "a", "question": "Q", "answer": "5"}, "1": {"id": "b", "question": "R", "answer": "6"}},
        {"version": 1, "data": [{"question": "Q", "answer": "5"}, {"question": "R", "answer": "6"}]},
    ],
)
def test_objects_that_hold_many_rows(tmp_path: Path, value: Any) -> None:
    rows, _ = load(tmp_path / "p.json", json.dumps(value))
    assert rows == TWO
    if "a" in value or "0" in value:
        assert Load(source=str(tmp_path / "p.json")).run()["problem_id"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "prompt"),
    [
        ({"messages": [{"role": "user", "content": "Q"}]}, "Q"),
        ({"conversations": [{"from": "human", "value": "Q"}]}, "Q"),
        (
            {"prompt": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "tags": ["a", "b"]},
            "Q",
        ),
        ({"question": "Q", "choices": ["a", "b"], "answer": "a"}, "Q\n\nA. a\nB. b"),
    ],
)
def test_an_object_that_is_one_row(tmp_path: Path, value: Any, prompt: str) -> None:
    rows, _ = load(tmp_path / "p.json", json.dumps(value))
    assert [row[0] for row in rows] == [prompt]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.json", {"question": ["Q", "R"], "answer": ["5"]}, "question (2), answer (1)"),
        ("p.json", {"columns": ["question"], "data": [["Q"], ["R", 1]]}, "row 2 of 'data'"),
        ("p.json", ["Q?"], 'element 1 is not a JSON object. Write {"prompt": "Q?"}'),
        ("p.jsonl", "Q?", 'line 1 is not a JSON object. Write {"prompt": "Q?"}'),
        ("p.json", [[{"role": "user", "content": "Q"}]], 'Write {"messages": [...]}'),
        ("p.json", {"question": {"text": "Q"}}, "'question' must be a text, or a list of {role, content}"),
    ],
)
def test_other_json_is_refused_with_what_to_write(tmp_path: Path, name: str, content: Any, words: str) -> None:
    if isinstance(content, dict) and content.get("question") == {"text": "Q"}:
        content = [content]
    with pytest.raises(BadInput) as refused:
        load(tmp_path / name, json.dumps(content))
    assert words in str(refused.value)
