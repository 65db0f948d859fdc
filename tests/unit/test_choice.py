"""Which problems a run takes, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.moe.order import ordered
from cluster.planning.choice import choose, finished_problems
from cluster.planning.plan import make_plan
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from operators.load import Load
from operators.sample.sampling import Sampling
from schemas.budget import Budget
from schemas.errors import BadInput, NothingToDo
from schemas.job import RunSettings
from tests.support import run, scripted_pipeline, write_problems

NOWHERE = Root("/nonexistent")


def chosen(problems: pl.DataFrame, settings: RunSettings) -> set[str]:
    return {key for table in choose([problems], NOWHERE, settings) for key in table["problem_key"]}


@given(count=st.integers(1, 60), shards=st.integers(1, 9))
def test_shards_share_the_problems_out_and_none_moves_when_others_come(count: int, shards: int) -> None:
    table = pl.DataFrame({"prompt": [f"what is {i}?" for i in range(count + 5)]})
    problems = Load(source="x").normalise(table)
    taken: list[set[str]] = []
    for number in range(shards):
        settings = RunSettings(shard=f"{number}/{shards}")
        try:
            few = chosen(problems.head(count), settings)
        except NothingToDo:
            few = set[str]()
        taken.append(few)
        try:
            assert few <= chosen(problems, settings)
        except NothingToDo:
            assert not few
    assert sum(map(len, taken)) == count
    assert set().union(*taken) == set(problems.head(count)["problem_key"])


def test_a_shard_must_be_one_of_them() -> None:
    problems = Load(source="x").normalise(pl.DataFrame({"prompt": ["a"]}))
    with pytest.raises(BadInput, match="numbered from 0 to 2"):
        chosen(problems, RunSettings(shard="3/3"))
    with pytest.raises(ValueError, match="shard"):
        RunSettings(shard="1 of 3")


def test_what_earlier_runs_finished_is_left_out(tmp_path: Path) -> None:
    """All of a run that is done; of one whose budget ended, those with all their samples; of others none."""
    source = write_problems(tmp_path / "p.jsonl", 6)
    pipeline = scripted_pipeline(source, 4, Sampling.model_validate({"policy": {"name": "uniform"}}))
    capped = RunSettings(budget=Budget(samples=10, account="a"))
    first = run(LocalRunner(), pipeline, tmp_path / "root", capped)
    assert first.manifest.state == "budget reached"
    held = first.dataset("sample").group_by("problem_key").len().collect()
    finished = set(finished_problems(first.root, [first.manifest]))
    assert finished == set(held.filter(pl.col("len") == 4)["problem_key"])
    write_problems(tmp_path / "p.jsonl", 7)
    rest = make_plan(pipeline, first.root, RunSettings(without_runs=(first.manifest.run_id,)))
    assert len(rest.problems) == 7 - len(finished)
    second = run(LocalRunner(), pipeline, tmp_path / "root", RunSettings(without_runs=(first.manifest.run_id,)))
    assert second.manifest.n_problems == len(rest.problems)
    both = RunSettings(without_runs=(first.manifest.run_id, second.manifest.run_id))
    with pytest.raises(NothingToDo, match="finished by earlier runs"):
        make_plan(pipeline, first.root, both)
    second.manifest.state = "failed"
    assert finished_problems(first.root, [second.manifest]).is_empty()


def test_types_come_in_turn_or_one_after_the_other() -> None:
    classes = np.array(["a", "a", "b", "a", "a", "b"])
    assert classes[ordered(classes, "alternate")].tolist() == ["a", "b", "a", "a", "b", "a"]
    assert ordered(classes, "grouped").tolist() == [0, 1, 3, 4, 2, 5]
    assert ordered(np.array(["b", "a", "b"]), "grouped").tolist() == [0, 2, 1]
