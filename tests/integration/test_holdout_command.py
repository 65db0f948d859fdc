"""``gristmill holdout``: held-out problems are asked, counted in the root, and left out by what tunes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from operators.load.held_out import held_out
from tests.commands import as_json, gristmill
from tests.integration.test_cli import math
from tests.support import write_problems


def test_questions_are_counted_in_the_root_and_simulate_leaves_the_held_out_ones_alone(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 40)
    as_json(*math("--set", "load.holdout=0.3"), cwd=tmp_path)
    assert as_json("holdout", "latest", cwd=tmp_path)["asked"] == []
    for wrong in (("--tolerance", "5"), ("--risk", "0")):
        assert gristmill("holdout", "latest", "--method", "majority", *wrong, cwd=tmp_path).returncode == 2
    assert "no regular expression" in gristmill("holdout", "latest", "--method", "(", cwd=tmp_path).stderr
    first = as_json("holdout", "latest", "--method", "^majority$", "--budget", "3", cwd=tmp_path)
    (row,) = first["asked"]
    assert (row["number"], row["name"], first["share"]) == (1, "majority", 0.3)
    assert row["n_tuning"] + row["n_holdout"] == 40
    more = as_json("holdout", "latest", "--method", "^(majority|rpc)$", cwd=tmp_path)
    assert [row["name"] for row in more["asked"]] == ["majority", "rpc"], "what was asked before isn't asked again"
    assert [row["number"] for row in more["asked"]] == [1, 2]
    other = gristmill("holdout", "latest", "--method", "majority", "--budget", "9", cwd=tmp_path)
    assert other.returncode == 2
    assert "set budget = 3 for all" in other.stderr
    shown = gristmill("holdout", "latest", cwd=tmp_path)
    assert "problems held out" in shown.stdout
    replayed = as_json("simulate", "latest", "--seeds", "2", cwd=tmp_path)
    assert replayed["problems"] == row["n_tuning"]


def test_a_run_without_a_holdout_says_how_to_have_one(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 3)
    as_json(*math(), cwd=tmp_path)
    done = gristmill("holdout", "latest", "--method", "majority", cwd=tmp_path)
    assert done.returncode == 2
    assert "load.holdout=0.2" in done.stderr


def test_a_table_has_the_same_sides(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("problem_id,n,c\n" + "".join(f"p{n},8,{n % 8}\n" for n in range(60)))
    found = as_json("simulate", "counts.csv", "--holdout", "0.25", "--seeds", "2", cwd=tmp_path)
    kept = 60 - int(held_out(pl.Series([f"p{n}" for n in range(60)]), 0.25).sum())
    assert found["problems"] == kept < 60
