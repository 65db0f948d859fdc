"""Tool calls as models write them: as the engine tells them apart, in tags, or as a fenced program."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from operators.strategies.words import Said

TAGGED = re.compile(r"(?s)<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|$)")
"""Hermes' and Qwen's form: JSON with ``name`` and ``arguments``."""
FENCE = "\n```\n"
"""What ends a fenced program; the fence that opens one names its language."""
FENCED = re.compile(r"(?s)```(?:python|py)[ \t]*\n(.*?)\n?```\s*$")


@dataclass(frozen=True)
class ToolCall:
    """One call; ``arguments`` is None where they can't be read, which ``wrong`` says."""

    call_id: str
    name: str
    arguments: dict[str, Any] | None
    wrong: str = ""


def told_calls(said: Said, place: str) -> list[ToolCall]:
    """Return the calls of a completion.

    Args:
        place: what makes ids of calls that have none.
    """
    if said.tool_calls is not None:
        found = [(one.get("id"), one.get("function", {})) for one in json.loads(said.tool_calls)]
    else:
        found = [(None, _json(match)) for match in TAGGED.findall(said.text)]
    return [_call(call_id or f"call_{place}_{number}", told) for number, (call_id, told) in enumerate(found)]


def untagged(text: str, called: bool) -> str:
    """Return a turn's text without the calls in it that were taken for calls: the turn has these by themselves, and a
    chat template would show them twice."""
    return TAGGED.sub("", text).strip() if called else text


def fenced_program(said: Said, place: str) -> list[ToolCall]:
    """Return the program that a completion ends with, as a call of ``python``."""
    found = FENCED.search(said.text)
    return [] if found is None else [ToolCall(f"call_{place}_0", "python", {"code": found[1]})]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _call(call_id: str, told: Any) -> ToolCall:
    if not isinstance(told, dict):
        return ToolCall(call_id, "", None, "error: the call isn't a JSON object with name and arguments")
    call = cast("dict[str, Any]", told)
    name, arguments = str(call.get("name", "")), call.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _json(arguments)
    if not isinstance(arguments, dict):
        return ToolCall(call_id, name, None, f"error: the arguments of {name} aren't a JSON object")
    return ToolCall(call_id, name, cast("dict[str, Any]", arguments))
