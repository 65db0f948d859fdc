"""Loading: what is accepted under which name, and what is refused with which words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from operators.load import Load
from schemas.contract import validate
from schemas.datasets import Problem
from schemas.errors import BadInput


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"question": "Q", "answer": "Because...\n#### 1,234"}, "Q", "1234"),
        ({"problem": "Q", "solution": r"so \boxed{\frac{1}{2}}."}, "Q", r"\frac{1}{2}"),
        ({"problem": "Q", "solution": r"\boxed{3}", "answer": "4"}, "Q", "4"),
        ({"instruction": "Q", "target": "x"}, "Q", "x"),
        ({"prompt": "Q", "ground_truth": "work\nA: 6"}, "Q", "6"),
        ({"prompt": "Q", "answer": 7}, "Q", "7"),
        ({"prompt": "Q"}, "Q", None),
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}], "answer": "1"}, "Q", "1"),
    ],
)
def test_the_names_the_field_uses(tmp_path: Path, row: dict[str, Any], prompt: str, answer: str | None) -> None:
    found = validate(Load(source=write(tmp_path / "p.jsonl", [row])).run(), Problem, "load").row(0, named=True)
    assert (found["prompt"], found["answer"]) == (prompt, answer)


def test_other_columns_ride_along(tmp_path: Path) -> None:
    rows = [{"question": "Q", "id": 3, "level": 2, "tags": ["a"]}, {"question": "R", "id": 4, "level": "hard"}]
    found = Load(source=write(tmp_path / "p.jsonl", rows)).run()
    assert found["problem_id"].to_list() == ["3", "4"]
    assert json.loads(found["metadata"][0])["level"] == "2"
    assert json.loads(found["metadata"][0])["tags"] == ["a"]


def test_csv_values_stay_text(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,question,answer\n007,Q,1.50\n")
    row = Load(source=str(tmp_path / "p.csv")).run().row(0, named=True)
    assert (row["problem_id"], row["answer"]) == ("007", "1.50")


def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path) -> None:
    rows = [{"id": str(i), "question": f"Q{i}", "answer": str(i)} for i in range(3)]
    jsonl = write(tmp_path / "p.jsonl", rows)
    pl.DataFrame(rows).write_csv(tmp_path / "p.csv")
    (tmp_path / "many").mkdir()
    for i, row in enumerate(rows):
        pl.DataFrame([row]).write_parquet(tmp_path / "many" / f"{i}.parquet")
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(Path(jsonl).read_bytes()))
    expected = Load(source=jsonl).run()
    for name in ("p.csv", "many", "p.jsonl.gz", "file"):
        source = f"file://{jsonl}" if name == "file" else str(tmp_path / name)
        assert Load(source=source).run().equals(expected), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ('{"question": "a"}\n{"question": \n', ["line 2", "not valid JSON"]),
        ('["a"]\n', ["line 1", "not a JSON object"]),
        ('{"frage": "a"}\n', ["frage", "question", "load.prompt_column"]),
        ('{"question": "a"}\n{"question": ""}\n', ["row 2", "'question' is empty"]),
        ('{"question": "a", "id": 1}\n{"question": "b", "id": 1}\n', ["same problem_id", "[1, 2]", "'1'"]),
        ('{"question": "a"}\n{"question": "a"}\n', ["same content", "[1, 2]"]),
        ('{"question": "a", "target": "1", "solution": "2"}\n', ["several columns", "load.answer_column"]),
        ('{"question": "a", "problem": "b"}\n', ["several columns", "load.prompt_column"]),
        ('{"question": "a", "verification": "nope"}\n', ["row 1", "'verification'"]),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(BadInput) as refused:
        Load(source=str(tmp_path / "p.jsonl")).run()
    for word in ["p.jsonl", *words]:
        assert word in str(refused.value)


def test_a_missing_file_offers_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "problems.jsonl", [{"question": "Q"}])
    with pytest.raises(BadInput, match=r"doesn't exist; did you mean '.*problems\.jsonl'"):
        Load(source=str(tmp_path / "problem.jsonl")).run()
    with pytest.raises(BadInput, match="unknown kind of file"):
        (tmp_path / "p.txt").write_text("x")
        Load(source=str(tmp_path / "p.txt")).run()


def test_generated_tasks_are_reproducible_and_carry_their_check() -> None:
    load = Load(source="reasoning_gym:chain_sum", size=6, seed=3)
    first, second = load.run(), load.run()
    assert first.equals(second)
    about = json.loads(first["verification"][0])["reasoning_gym"]
    assert about["task"] == "chain_sum"
    assert about["entry"]["answer"] == first["answer"][0]
    longer = Load(source="reasoning_gym:chain_sum", size=9, seed=3).run()
    assert longer["problem_key"].to_list()[:6] == first["problem_key"].to_list()
    with pytest.raises(BadInput, match=r"did you mean .*chain_sum"):
        Load(source="reasoning_gym:chain_sums").run()
    with pytest.raises(BadInput, match="refuses config"):
        Load(source="reasoning_gym:chain_sum", config={"nonsense": 1}).run()


def test_problems_that_were_loaded_can_be_loaded_again(tmp_path: Path) -> None:
    """Their ``messages`` are null where a problem has a prompt of its own."""
    loaded = Load(source=write(tmp_path / "p.jsonl", [{"prompt": "Q", "answer": "1"}])).run()
    loaded.write_parquet(tmp_path / "loaded.parquet")
    again = Load(source=str(tmp_path / "loaded.parquet")).run()
    assert again.select("prompt", "answer", "messages").equals(loaded.select("prompt", "answer", "messages"))
    with pytest.raises(BadInput, match="row 1: 'messages' is empty"):
        Load(source=write(tmp_path / "m.jsonl", [{"messages": None}, {"messages": []}])).run()
