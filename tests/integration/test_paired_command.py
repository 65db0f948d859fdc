"""``gristmill diff --paired`` on two runs of one pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import as_json, gristmill
from tests.integration.test_cli import math
from tests.support import write_problems


def test_two_runs_are_compared_problem_by_problem(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 12)
    prices = "run.prices.sample={dollars_per_million_prompt_tokens: 1.0, dollars_per_million_completion_tokens: 2.0}"
    first = as_json(*math("--set", prices), cwd=tmp_path)
    second = as_json(*math("--set", prices, "--set", "sample.seed=1"), cwd=tmp_path)
    runs = (first["run_id"], second["run_id"])
    document = as_json("diff", *runs, "--paired", cwd=tmp_path)
    (row,) = document["tasks"]
    assert (row["task"], row["n_problems"]) == ("all", 12)
    assert row["first"] == pytest.approx(first["pass_at_k"][0]["coverage"])
    assert row["difference"] == pytest.approx(row["second"] - row["first"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["tokens_ratio"] == pytest.approx(1.0, abs=0.3)
    same = as_json("diff", runs[0], runs[0], "--paired", "--by", "level", cwd=tmp_path)["tasks"]
    assert [same[0][name] for name in ("difference", "low", "high", "lost", "won", "p_value")] == [0, 0, 0, 0, 0, 1]
    shown = gristmill("diff", *runs, "--paired", cwd=tmp_path)
    assert "difference" in shown.stdout
