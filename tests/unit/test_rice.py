"""nPMI of experts and marker tokens, by hand."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest

from operators.measure.rice import MeasureRice
from schemas.contract import conform, validate
from schemas.errors import BadInput
from schemas.experts import ExpertRelevance


def measured(*tokens: tuple[str, list[int]], pieces: int = 1, **fields: Any) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "problem_key": [f"k{at % 3}" for at in range(len(tokens))],
            "sample_index": 0,
            "position": range(len(tokens)),
            "layer": 0,
            "token": [text for text, _ in tokens],
            "experts": [experts for _, experts in tokens],
        }
    )
    operator = MeasureRice(**fields)
    table = conform(rows, operator.inputs["routing"], "routing")
    parts = [operator.partial(part) for part in (table[at::pieces] for at in range(pieces))]
    return validate(operator.merge(pl.concat(parts)), ExpertRelevance, "test")


TOKENS = [("<think>", [0, 1]), ("a", [1, 2]), ("b", [1, 3]), (" <think>\n", [0, 2])]


def test_npmi_by_hand() -> None:
    table = measured(*TOKENS).sort("expert")
    found = dict(table.select("expert", "npmi").iter_rows())
    assert found[0] == pytest.approx(1.0)  # p(e) = p(x) = p(e, x) = 1/2
    assert found[1] == pytest.approx(math.log2(0.25 / (0.75 * 0.5)) / 2)
    assert found[2] == pytest.approx(math.log2(0.25 / (0.5 * 0.5)) / 2) == 0.0
    assert found[3] == -1.0  # they never meet
    assert table["rank"].to_list() == [1, 3, 2, 4]
    assert table["weight"].to_list() == [64.0, 1.0, 64.0, 1.0]


def test_markers_are_averaged_over_those_that_occur() -> None:
    tokens = [*TOKENS, ("</think>", [0, 3])]
    one = {row["expert"]: row["npmi"] for row in measured(*tokens, markers=("<think>",)).to_dicts()}
    other = {row["expert"]: row["npmi"] for row in measured(*tokens, markers=("</think>",)).to_dicts()}
    both = {row["expert"]: row["npmi"] for row in measured(*tokens).to_dicts()}
    assert both == {expert: pytest.approx((one[expert] + other[expert]) / 2) for expert in range(4)}


def test_pieces_make_no_difference() -> None:
    assert measured(*TOKENS).equals(measured(*TOKENS, pieces=3))


def test_without_a_marker_there_is_nothing_to_measure() -> None:
    with pytest.raises(BadInput, match="none of the markers"):
        measured(("a", [0]))
