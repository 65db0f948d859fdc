"""``simulate --recommend``: a policy and a budget for a goal, from a record or a pilot."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from jobs.simulate.recommend import print_recommendation, settings_of
from schemas.errors import BadInput
from tests.integration.test_budget_commands import ask

PROBLEMS = 32
"""Problems."""


def record(path: Path, n: int) -> Path:
    """Write counts of problems whose difficulty a feature tells, and the features beside them."""
    rng = np.random.default_rng(0)
    level = rng.normal(0, 1, PROBLEMS)
    rates = 1 / (1 + np.exp(-(-2.5 + 2.0 * level + rng.normal(0, 0.4, PROBLEMS))))
    names = [f"p{i}" for i in range(PROBLEMS)]
    pl.DataFrame({"problem_id": names, "n": n, "c": rng.binomial(n, rates)}).write_parquet(path)
    pl.DataFrame({"problem_id": names, "level": level}).write_parquet(path.with_name("features.parquet"))
    return path


def recommended(source: Path, **settings: Any) -> dict[str, Any]:
    return ask(source, seeds=3, **settings)


def test_the_cheapest_that_reaches_the_goal(tmp_path: Path) -> None:
    source = record(tmp_path / "counts.parquet", 80)
    found = recommended(source, reach=0.6, features=str(tmp_path / "features.parquet"))
    rows = {(row["policy"], row["prior"]): row for row in found["alternatives"]}
    assert {name for name, _ in rows} == {"uniform", "until_correct", "greedy", "marginal", "oracle"}
    assert not found["foretold"]
    best = found["recommended"]
    assert (best["policy"], best["prior"]) == ("marginal", "features")
    assert rows["oracle", ""]["budget"] < best["budget"] < rows["until_correct", ""]["budget"]
    assert best["budget"] >= best["mean"]
    assert settings_of(found)["run"]["budget"] == {"samples": int(np.ceil(best["budget"]))}
    # the budget is enough: uniform's row says what its own replays say
    curve = recommended(source)["policies"]["uniform"]
    reached = next(cost for cost, value in zip(curve["cost"], curve["value"], strict=True) if value >= 0.6 * PROBLEMS)
    assert rows["uniform", ""]["mean"] == pytest.approx(reached, rel=0.25)


def test_a_pilot_is_foretold_from_its_counts(tmp_path: Path) -> None:
    source = record(tmp_path / "pilot.parquet", 6)
    found = recommended(source, reach=0.75)
    assert found["foretold"]
    best = found["recommended"]
    assert best["policy"] != "oracle"
    assert best["mean"] > 6 * PROBLEMS * 0.3
    assert best["budget"] >= best["mean"]


def test_what_can_not_be_reached_is_said(tmp_path: Path) -> None:
    source = record(tmp_path / "pilot.parquet", 2)
    found = recommended(source, reach=1.0)
    assert {row["budget"] for row in found["alternatives"]} == {None}, "some problems may never be solved"
    assert found["recommended"] is None
    console = Console(record=True, file=StringIO())
    print_recommendation(console, found)
    assert "Nothing reaches 1 surely" in console.export_text()
    votes = pl.DataFrame(
        {
            "problem_id": ["a"] * 4,
            "sample_index": range(4),
            "predicted_answer": list("1222"),
            "is_correct": [True, False, False, False],
        }
    )
    votes.write_parquet(tmp_path / "votes.parquet")
    with pytest.raises(BadInput, match="can't be foretold"):
        recommended(tmp_path / "votes.parquet", reach=0.9, goal="accuracy")


def test_features_of_other_problems_are_refused(tmp_path: Path) -> None:
    source = record(tmp_path / "counts.parquet", 10)
    pl.DataFrame({"problem_id": ["p1"], "level": [1.0]}).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(BadInput, match="says nothing of 31 problems"):
        recommended(source, features=str(tmp_path / "few.parquet"))
