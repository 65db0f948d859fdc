"""``gristmill threshold``: from a run of a cascade, or a table, the value from which the small model is trusted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from operators.load.held_out import held_out
from tests.commands import as_json, gristmill
from tests.integration.test_cli import math

CASCADE = "sample.strategy={name: cascade, samples: 3, threshold: 0}"


def test_a_run_of_a_cascade(tmp_path: Path) -> None:
    """Of 60 problems the small model is right and agrees with itself, of 20 it says this and that, of 4 nothing. Where
    the large model was asked, its answers say nothing about the small one."""
    draws = random.Random(0)
    rows = [{"problem_id": f"e{n}", "prompt": f"easy {n}?", "answer": "1"} for n in range(60)]
    rows += [{"problem_id": f"h{n}", "prompt": f"hard {n}?", "answer": "99"} for n in range(20)]
    rows += [{"problem_id": f"s{n}", "prompt": f"silent {n}?", "answer": "1"} for n in range(4)]
    draws.shuffle(rows)
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = {"easy": ["\\boxed{1}"], "hard": ["\\boxed{7}", "\\boxed{8{seed}}"], "silent": [""]}
    small = ["--set", f"engine.by_prompt={json.dumps(words)}"]
    large = ["--set", "engines.large={kind: scripted, model: large, answers: ['\\boxed{1}']}"]
    run = [*large, *small, "--set", "sample.n=1"]
    as_json(*math("--set", CASCADE, *run), cwd=tmp_path)
    found = as_json("threshold", "latest", "--accuracy", "0.9", cwd=tmp_path)
    assert (found["problems"], found["by_large"], found["held_out"]) == (84, 0, 0)
    assert found["threshold"] == 1.0
    assert found["tried"][-1]["accepted"] == 84
    assert found["tried"][-1]["passed"] is False
    assert found["taken"] == pytest.approx(found["tried"][0]["accepted"] / 84)
    as_json(*math("--set", CASCADE.replace("threshold: 0", "threshold: 0.5"), *run), cwd=tmp_path)
    again = as_json("threshold", "latest", "--accuracy", "0.9", cwd=tmp_path)
    assert again["threshold"] == 1.0
    assert again["by_large"] == 84 - again["tried"][-1]["accepted"] >= 4
    shown = gristmill("threshold", "latest", "--accuracy", "0.9", cwd=tmp_path).stdout
    assert "threshold=1.0: " in shown
    assert "at least 90.0% of those on problems like these are right" in " ".join(shown.split())
    none = gristmill("threshold", "latest", "--accuracy", "0.999", cwd=tmp_path)
    assert none.returncode == 0
    assert "takes 2,995 that all are" in " ".join(none.stdout.split())


def test_a_table_without_what_is_held_out(tmp_path: Path) -> None:
    keys = [f"p{n}" for n in range(400)]
    outside = held_out(pl.Series(keys), 0.5)
    rows = pl.DataFrame({"problem_id": keys, "score": [0.5] * 400, "is_correct": ~outside})
    twice = pl.concat([rows, rows.with_columns(is_correct=pl.lit(False))])  # of a problem the first row counts
    twice.write_csv(tmp_path / "answers.csv")
    assert as_json("threshold", "answers.csv", cwd=tmp_path)["threshold"] is None
    found = as_json("threshold", "answers.csv", "--holdout", "0.5", cwd=tmp_path)
    assert found["threshold"] == 0.5
    assert found["held_out"] == int(outside.sum())
    assert found["taken"] == 1.0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("problem_id,score\na,1\n", "is_correct"),
        ("problem_id,score,is_correct\na,high,true\n", "must be numbers"),
        ("problem_id,is_correct\na,true\n", "search_score"),
        ("problem_id,score,is_correct\na,1,true\n,1,true\n", "1 rows name no problem"),
    ],
)
def test_a_table_that_lacks_something(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "answers.csv").write_text(table)
    done = gristmill("threshold", "answers.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_values_that_are_none_are_never_accepted(tmp_path: Path) -> None:
    rows = [{"problem_id": f"p{n}", "score": None if n % 2 else 0.7, "is_correct": n % 2 == 0} for n in range(80)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = as_json("threshold", "answers.jsonl", cwd=tmp_path)
    assert (found["threshold"], found["taken"], found["by_large"]) == (0.7, 0.5, 40)


def test_a_run_without_values_says_how_to_have_them(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text('{"problem_id": "a", "prompt": "1?", "answer": "1"}\n')
    as_json(*math("--set", "sample.n=2"), cwd=tmp_path)
    done = gristmill("threshold", "latest", cwd=tmp_path)
    assert done.returncode == 2
    assert "name: cascade" in done.stderr
    assert gristmill("threshold", "latest", "--accuracy", "1.5", cwd=tmp_path).returncode == 2
