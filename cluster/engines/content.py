"""What engines can show their model of a conversation, besides texts: tools, calls, names, parts.

An engine that applies the model's own chat template shows what that template has a place for; a server is sent
everything. What can't be shown is refused, with the problem, before anything is paid: a call that is left out without a
word makes another problem.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.conversation import Turn, text_of
from schemas.errors import BadInput

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Takes:
    """What an engine takes.

    Attributes:
        parts: images and other parts that aren't text.
        template: the chat template that is applied; None where the server has one, or it can't be known from here.
    """

    parts: bool = True
    template: str | None = None


EVERYTHING = Takes()
TEXT = Takes(parts=False, template="")
"""Turns joined as plain text."""

_NAMED = re.compile(r"""message(?:\.name\b|\[['"]name['"]\]|\.get\(\s*['"]name)""")


def untaken(messages: Sequence[Turn], tools: Tools, takes: Takes) -> str:
    """Return what of a conversation (OpenAI's messages) can't be shown, and why; "" where everything can."""
    if not takes.parts:
        kinds = sorted({part["type"] for turn in messages for part in _parts(turn)} - {"text"})
        if kinds:
            return f"parts of type {', '.join(map(repr, kinds))}: it reads texts alone"
    if takes.template is None:
        return ""
    why = "turns are joined as plain text" if not takes.template else "the model's chat template has no place for them"
    if tools and "tools" not in takes.template:
        return f"tools: {why}"
    if "tool_calls" not in takes.template and any(turn.get("tool_calls") for turn in messages):
        return f"tool calls: {why}"
    if not _NAMED.search(takes.template) and any(turn.get("name") and turn["role"] != "tool" for turn in messages):
        return f"names of speakers: {why}"
    return ""


def shown(messages: Sequence[Turn], tools: Tools, takes: Takes) -> list[Turn]:
    """Return the messages with texts for lists of texts, as chat templates read them.

    Raises:
        BadInput: something can't be shown.
    """
    lost = untaken(messages, tools, takes)
    if lost:
        raise BadInput(f"the engine can't take {lost}")
    return [{**turn, "content": text_of(turn)} for turn in messages]


def for_servers(messages: Sequence[Turn]) -> list[Turn]:
    """Return the messages as OpenAI's servers take them: arguments of calls as JSON texts, images by their URL."""
    found: list[Turn] = []
    for turn in messages:
        if "tool_calls" in turn:
            turn = {**turn, "tool_calls": [_as_text(call) for call in turn["tool_calls"]]}
        if _parts(turn):
            turn = {**turn, "content": [_by_url(part) for part in _parts(turn)]}
        found.append(turn)
    return found


def _by_url(part: Turn) -> Turn:
    if part["type"] != "image":
        return part
    place = next((part[name] for name in ("image_url", "image", "url", "path") if name in part), "")
    return {"type": "image_url", "image_url": place if isinstance(place, dict) else {"url": place}}


def _as_text(call: Turn) -> Turn:
    function = call.get("function")
    if not function or isinstance(function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


def _parts(turn: Turn) -> list[Turn]:
    return turn["content"] if isinstance(turn["content"], list) else []


def gguf_template(path: Path) -> str | None:
    """Return the chat template that a GGUF file carries, None where it has none."""
    key = b"tokenizer.chat_template"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(key)
        if at < 0:
            return None
        start = at + len(key)
        kind, size = struct.unpack("<IQ", content[start : start + 12])  # the value's type (8 is text), its length
        return content[start + 12 : start + 12 + size].decode(errors="replace") if kind == 8 else None


def folder_template(folder: Path) -> str | None:
    """Return the chat template in a model's folder, as transformers saves it; None where none is there."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if name.endswith(".jinja"):
            return text
        found: Any = json.loads(text).get("chat_template")
        if isinstance(found, list):  # several, each with a name
            found = "\n".join(str(one.get("template", "")) for one in found)
        if found:
            return str(found)
    return None
