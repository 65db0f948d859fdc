"""Whatever the one who answers is called, and whatever follows, what was said after the last question isn't shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from operators.load import Load


def shown(folder: Path, *turns: dict[str, str]) -> list[Any]:
    key = "conversations" if "from" in turns[0] else "messages"
    (folder / "p.jsonl").write_text(json.dumps({key: list(turns), "answer": "1"}) + "\n")
    [problem] = Load(source=str(folder / "p.jsonl")).run().to_dicts()
    if problem["messages"] is None:
        return [problem["prompt"]]
    return [turn["content"] for turn in problem["messages"]]


@pytest.mark.parametrize("role", ["assistant", "Assistant", "ASSISTANT", "model", "ai", "bing", "Some One"])
def test_who_answers(tmp_path: Path, role: str) -> None:
    asked = {"role": "User", "content": "Q?"}
    assert shown(tmp_path, asked, {"role": role, "content": "SECRET"}) == ["Q?"]
    asked = {"from": "human", "value": "Q?"}
    assert shown(tmp_path, asked, {"from": role, "value": "SECRET"}) == ["Q?"]


def test_a_system_turn_behind_the_answer_stays(tmp_path: Path) -> None:
    turns = [("user", "Q?"), ("assistant", "SECRET"), ("system", "Be brief.")]
    found = shown(tmp_path, *({"role": role, "content": text} for role, text in turns))
    assert found == ["Q?", "Be brief."]


def test_earlier_turns_stay(tmp_path: Path) -> None:
    turns = [("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "SECRET")]
    found = shown(tmp_path, *({"role": role, "content": text} for role, text in turns))
    assert found == ["S", "Q1", "A1", "Q2"]
