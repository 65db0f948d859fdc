"""Searches on scripts whose best path is known, and what they came to."""

from __future__ import annotations

from typing import Any

from tests.unit.strategies.playing import played, scripted, setting

GOLD: Any = {"name": "prm", "reduce": "whole", "step_tag": "#"}
"""A process reward model that is scripted: it sees the whole text in one line."""


def boxes(rows: list[dict[str, Any]]) -> list[str]:
    return [row["completion"].rpartition("{")[2].rstrip("}") for row in rows]


def calls(at: Any, kind: str = "generate") -> list[str]:
    return [call.call for call in at.journal if call.kind == kind]


PATHS = {"A": 0.9, "B": 0.8, "A A": 0.3, "A B": 0.3, "B A": 0.2, "B B": 0.95}
ENDS = {path + f" \\boxed{{{path.replace(' ', '')}}}": PATHS[path] for path in PATHS if " " in path}


def search(kind: Any, script: dict[str, tuple[str, ...]], scores: dict[str, float], **fields: Any) -> Any:
    at = setting(scripted(script, scores))
    return played(kind(scorer=GOLD, **fields), at), at
