"""Conversations: one form for the turns of problems and of training rows.

A turn has ``role`` and ``content``, and may have more, which is null elsewhere:

* ``name``: who speaks, or which tool answers.
* ``tool_calls``: what an assistant calls, a JSON list of ``{"id", "type": "function", "function": {"name",
  "arguments"}}`` with the arguments as an object.
* ``tool_call_id``: the call that a tool's turn answers.
* ``parts``: a JSON list of parts (text, images by reference) where the content is more than one text. ``content`` then
  holds the texts alone, a line each.

Parquet wants equal fields in all rows, so what has fields of its own is kept as JSON. ``schemas.messages`` makes this
form of what people have; ``spoken`` makes of it what engines and chat templates read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from schemas.later import pl

MORE = ("name", "tool_calls", "tool_call_id", "parts")
"""What a turn may have besides ``role`` and ``content``."""

Turn = dict[str, Any]


@cache
def turns_dtype() -> pl.List:
    """Return the dtype of stored conversations."""
    return pl.List(pl.Struct(dict.fromkeys(("role", "content", *MORE), pl.String())))


def spoken(turns: Iterable[Mapping[str, Any]] | None) -> list[Turn]:
    """Return stored turns as engines and chat templates read them: OpenAI's messages, without what is null.

    ``tool_calls`` are a list, with arguments as objects; ``content`` is a list of parts where there are some.
    """
    found: list[Turn] = []
    for turn in turns or ():
        message: Turn = {key: value for key, value in turn.items() if value is not None and key != "parts"}
        if turn.get("parts") is not None:
            message["content"] = json.loads(turn["parts"])
        if turn.get("tool_calls") is not None:
            message["tool_calls"] = json.loads(turn["tool_calls"])
        found.append(message)
    return found


def text_of(message: Mapping[str, Any]) -> str:
    """Return what a turn says in words, as it is stored or as engines read it; of parts the texts, a line each."""
    content = message["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)


def described(tools: str | None) -> list[Turn]:
    """Return stored tools as engines and chat templates read them."""
    return [] if tools is None else json.loads(tools)


def has_more(column: pl.Series) -> bool:
    """Whether any turn of a column of conversations has more than a role and a content."""
    turns = column.explode().struct
    return any(turns.field(name).null_count() < len(turns.field(name)) for name in MORE)


def plain_turns(name: str) -> pl.Expr:
    """Return a column of conversations with ``role`` and ``content`` alone."""
    element = pl.element().struct
    return pl.col(name).list.eval(pl.struct(element.field("role"), element.field("content")))
