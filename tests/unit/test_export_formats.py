"""The layouts that trainers read, on rows made by hand."""

from __future__ import annotations

import polars as pl
import pytest

from jobs.export.card import kind_of
from jobs.export.formats import FORMATS, Reasoning

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2 + 2?"},
    {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"},
]
ROWS = pl.LazyFrame(
    {"messages": [TURNS, TURNS[1:3]], "problem_id": ["a", "b"], "sample_index": [3, 0], "score": 1.0, "lineage": "{}"}
)


def made(name: str, reasoning: Reasoning = "tags") -> list[dict[str, object]]:
    return FORMATS[name].of(ROWS, reasoning).collect().to_dicts()  # type: ignore[index]


def test_messages_keep_move_or_drop_reasoning() -> None:
    assert made("messages")[0]["messages"] == TURNS
    assert made("messages", "drop")[0]["messages"][-1] == {"role": "assistant", "content": "4"}  # type: ignore[index]
    field = made("messages", "field")[0]["messages"]
    assert field[-1] == {"role": "assistant", "content": "4", "reasoning_content": "Two and two."}  # type: ignore[index]
    assert [turn["reasoning_content"] for turn in field[:-1]] == [None] * 4  # type: ignore[index]


def test_prompt_completion_parts_at_the_last_turn() -> None:
    first, second = made("prompt-completion")
    assert first["prompt"] == TURNS[:-1] and first["completion"] == TURNS[-1:]
    assert second["prompt"] == TURNS[1:2] and second["completion"] == TURNS[2:3]


def test_sharegpt_names_its_speakers() -> None:
    found = made("sharegpt")[0]["conversations"]
    assert [turn["from"] for turn in found] == ["system", "human", "gpt", "human", "gpt"]  # type: ignore[index,union-attr]
    assert found[-1]["value"] == TURNS[-1]["content"]  # type: ignore[index]


def test_alpaca_is_the_last_exchange_with_what_came_before() -> None:
    first, second = made("alpaca", "drop")
    assert (first["instruction"], first["output"], first["system"]) == ("And 2 + 2?", "4", "Be brief.")
    assert first["history"] == [["1 + 1?", "2"]]
    assert (second["instruction"], second["output"], second["system"]) == ("1 + 1?", "2", "")
    assert second["history"] == [] and second["input"] == ""


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("near-duplicate of p1/0", "near-duplicate"),
        ('contaminated: "a b" is in f.jsonl row 3 (id 7)', "contaminated"),
        ("truncated", "truncated"),
    ],
)
def test_reasons_are_counted_by_kind(reason: str, kind: str) -> None:
    assert pl.DataFrame({"reason": [reason]}).select(kind_of(pl.col("reason"))).item() == kind


def test_thinking_is_marked_where_it_stays() -> None:
    for name in ("messages", "prompt-completion"):
        first, second = made(name)
        text = TURNS[-1]["content"]
        assert [text[span["start"] : span["end"]] for span in first["thinking"]] == [  # type: ignore[union-attr]
            "<think>\nTwo and two.\n</think>"
        ]
        assert second["thinking"] == []
        assert [row["thinking"] for row in made(name, "drop")] == [[], []]
