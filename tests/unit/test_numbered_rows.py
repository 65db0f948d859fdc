"""Rows of a snapshot by their numbers: a worker gets the rows of its problems, and reads little besides them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from cluster.storage.numbering import Numbering
from cluster.storage.root import Root
from cluster.storage.rows import NEAR, NumberedRows
from cluster.storage.snapshot import Snapshot
from schemas.contract import validate
from schemas.datasets import Problem

ROWS = 3 * NEAR
WANTED = Problem.select("problem_key", "prompt")


def _problems(numbers: range) -> pl.DataFrame:
    keys = [f"{number:032x}" for number in numbers]
    table = {"problem_key": keys, "problem_id": keys, "prompt": [f"What is {number}?" for number in numbers]}
    nothing = {name: [None] * len(numbers) for name in ("messages", "tools", "answer", "verification", "metadata")}
    whole = {**table, **nothing, "task_type": ["math"] * len(numbers), "prompt_key": keys}
    return validate(pl.DataFrame(whole).select(*Problem.columns()), Problem, "load")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, NumberedRows, Numbering]:
    root = Root.at(tmp_path_factory.mktemp("root"))
    snapshot = Snapshot(root, "load", "v", Problem)
    bounds = [0, 10, NEAR + 10, ROWS]
    parts = {
        (part := snapshot.write(index, _problems(range(first, end)))).name: part.rows
        for index, (first, end) in enumerate(pairwise(bounds))
    }
    snapshot.finish(parts, {}, {})
    return root, NumberedRows.of(snapshot), Numbering([pl.Series([f"{number:032x}" for number in range(ROWS)])])


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [0],
        [ROWS - 1],
        [9, 10],
        [*range(5, 40)],
        [40, 7, 7, 3],
        [*range(ROWS)],
        [0, NEAR, 2 * NEAR + 1, ROWS - 1],
        [1, 5 + NEAR, 6 + NEAR, 6 + 2 * NEAR],
    ],
)
def test_a_worker_gets_the_rows_of_its_problems(kept: tuple[Root, NumberedRows, Numbering], numbers: list[int]) -> None:
    root, rows, numbering = kept
    found = rows.slice(np.array(numbers, np.int64), numbering).read(root, WANTED)
    assert found["prompt"].to_list() == [f"What is {number}?" for number in sorted(set(numbers))]


def test_what_lies_far_from_wanted_rows_is_not_read(kept: tuple[Root, NumberedRows, Numbering]) -> None:
    root, rows, numbering = kept
    far = rows.slice(np.array([0, ROWS - 1]), numbering)
    assert far.stretches == ((0, 1), (ROWS - NEAR - 11, 1)) and far.problem_keys is None
    near = rows.slice(np.array([0, 2]), numbering)
    assert near.stretches == ((0, 3),)
    half = near.restricted_to(pl.DataFrame({"problem_key": [f"{2:032x}"], "first": [0], "count": [1]}))
    assert half.read(root, WANTED)["prompt"].to_list() == ["What is 2?"]
