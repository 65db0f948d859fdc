"""Reading conversations: turns as people have them, brought into the form of ``schemas.conversation``.

Understood are OpenAI's messages (with tool calls, calls of the old ``function_call`` kind, and parts), Anthropic's,
ShareGPT's ``{from, value}``, messages with ``reasoning_content``, turns as they are stored here, and texts that hold a
list of any of these as JSON. Thinking that comes apart from its turn becomes the beginning of the content, in
``<think>`` tags. Fields that no model reads (a turn's weight, its date) are left out.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from schemas.conversation import MORE, Turn, turns_dtype
from schemas.later import pl
from schemas.parts import NotATurn, content_of, spread, without_nulls

__all__ = [
    "NotATurn",
    "calls_of",
    "conversations",
    "conversations_of",
    "tools_column",
    "tools_of",
    "turn_of",
    "turns_of",
]

ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
"""Other names of the usual roles."""
_USUAL = ("system", "developer", "user", "assistant", "tool")
CALLING = ("function_call", "tool_call")
"""ShareGPT's roles of an assistant's turn that is a call, as JSON."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
"""Fields of an assistant's turn that hold its thinking."""


def _named_otherwise(roles: pl.Series) -> bool:
    """Whether some role has another name than the usual one, or is written in another way."""
    low = roles.str.strip_chars().str.to_lowercase()
    return bool((low.is_in([*ROLES, *CALLING, ""]) | ((low != roles) & low.is_in(_USUAL))).any())


def conversations(values: pl.Series) -> pl.Series:
    """Return a column of conversations in the form of the contracts; nulls stay null.

    Columns of plain ``{role, content}`` don't leave Polars.

    Raises:
        NotATurn: naming what is wrong, with the row.
    """
    plain = _plain(values)
    if plain is not None:
        return plain
    padded = isinstance(values.dtype, pl.List)  # structs have the keys of all rows
    return pl.Series(values.name, conversations_of(values.to_list(), padded=padded), dtype=turns_dtype())


def conversations_of(values: Iterable[Any], *, padded: bool = False) -> list[list[Turn] | None]:
    """Return many conversations (see ``turns_of``); ``NotATurn`` tells the row."""
    found: list[list[Turn] | None] = []
    for row, value in enumerate(values):
        try:
            found.append(None if value is None else turns_of(value, padded=padded))
        except NotATurn as error:
            raise NotATurn(str(error), row) from None
    return found


def _plain(values: pl.Series) -> pl.Series | None:
    """Return a column of turns that have nothing but texts; None where a turn has more, or isn't one."""
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else None
    if not isinstance(inner, pl.Struct):
        return None
    fields = {field.name: field.dtype for field in inner.fields}
    if fields.get("role") != pl.String or fields.get("content") != pl.String:
        return None
    said = values.filter(values.list.len() > 0).explode().struct.unnest()
    more = [name for name in (*MORE, *THOUGHTS, "function_call") if name in fields]
    if any(said[name].null_count() < len(said) for name in more):
        return None
    if said["role"].null_count() or said["content"].null_count() or _named_otherwise(said["role"]):
        return None
    element = pl.element().struct
    whole = [element.field("role"), element.field("content"), *(pl.lit(None, pl.String).alias(n) for n in MORE)]
    return values.to_frame("m").select(pl.col("m").list.eval(pl.struct(whole))).to_series().alias(values.name)


def turns_of(value: Any, *, padded: bool = False) -> list[Turn]:
    """Return the turns of one conversation: a list of messages, or a text that holds one as JSON.

    Args:
        padded: the value comes from a table, where a call's arguments have the names of all rows': nulls are none.

    Raises:
        NotATurn: naming the turn, from 1, and what is wrong with it.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        if not {"role", "from"} & value.keys():
            raise NotATurn("is an object without a role")
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise NotATurn("is no list of turns")
    listed = cast("Sequence[Any]", value)
    if len(listed) == 1 and isinstance(listed[0], list):  # one conversation in a list of such
        listed = cast("list[Any]", listed[0])
    if listed and all(isinstance(text, str) for text in listed):
        raise NotATurn(
            "is a list of texts: a problem is asked once. Write a row for each, with what is said before it in messages"
        )
    turns: list[Turn] = []
    unnamed: list[int] = []  # turns whose calls have no ids in the form they come in
    for number, message in enumerate(listed, 1):
        try:
            found = [turn_of(one, padded=padded) for one in spread(message)]
        except NotATurn as error:
            raise NotATurn(f"turn {number} {error}") from None
        unnamed += [len(turns)] if _calls_of_old(message) else []
        turns += found
    return _with_ids(turns, unnamed) if unnamed else turns


def _calls_of_old(message: Any) -> bool:
    """Whether a message calls as it was done before calls had ids."""
    given = cast("Mapping[str, Any]", message)
    return bool(given.get("function_call")) or str(given.get("role", given.get("from", ""))).lower() in CALLING


def _with_ids(turns: list[Turn], unnamed: list[int]) -> list[Turn]:
    """Return turns whose calls have ids, and the answers behind them these: a server takes no calls without them."""
    waiting: list[str] = []
    found: list[Turn] = []
    for place, turn in enumerate(turns):
        if place in unnamed and turn["tool_calls"] is not None:
            # (of nine letters and digits: some chat templates refuse others)
            calls = [
                {"id": f"call{place:03d}{number:02d}", **call}
                for number, call in enumerate(json.loads(turn["tool_calls"]))
            ]
            waiting = [call["id"] for call in calls]
            turn = {**turn, "tool_calls": _json(calls)}
        elif turn["role"] == "tool" and turn["tool_call_id"] is None and waiting:
            turn = {**turn, "tool_call_id": waiting[0]}
            waiting = waiting[1:] or waiting
        found.append(turn)
    return found


def turn_of(message: Any, *, padded: bool = False) -> Turn:
    """Return one message (OpenAI's, ShareGPT's, or a turn as it is stored) as a turn; see ``turns_of``."""
    if not isinstance(message, Mapping):
        raise NotATurn("must be an object such as {role, content}")
    given = {str(key): item for key, item in cast("Mapping[Any, Any]", message).items() if item is not None}
    said = str(given.get("role", given.get("from", ""))).strip()
    if not said:
        raise NotATurn("has no role")
    role = ROLES.get(said.lower(), said.lower() if said.lower() in _USUAL else said)
    content = next((given[name] for name in ("parts", "content", "value") if name in given), None)
    if isinstance(given.get("parts"), str):
        content = _parsed(given["parts"])
    calls = given.get("tool_calls") or ([given["function_call"]] if given.get("function_call") else None)
    if said.lower() in CALLING:
        role, calls, content = "assistant", content, ""
    tool_calls = _calls(calls, padded)
    if content is None and tool_calls is None and not any(given.get(name) for name in THOUGHTS):
        raise NotATurn("has no content")
    text, parts = content_of("" if content is None else content)
    if role == "assistant":
        text, parts = _with_thought(given, text, parts)
    return {
        "role": role,
        "content": text,
        "name": str(given["name"]) if given.get("name") not in (None, "") else None,
        "tool_calls": None if tool_calls is None else _json(tool_calls),
        "tool_call_id": str(given["tool_call_id"]) if given.get("tool_call_id") not in (None, "") else None,
        "parts": None if parts is None else _json(parts),
    }


def _calls(value: Any, padded: bool) -> list[Turn] | None:
    """Return an assistant's tool calls, however they are written."""
    if isinstance(value, str):
        value, padded = _parsed(value, otherwise=None), False
        if value is None:
            raise NotATurn("has tool_calls that are no JSON")
    if isinstance(value, Mapping):
        value = [value]
    if not value:
        return None
    if not isinstance(value, Sequence):
        raise NotATurn("has tool_calls that are no list")
    return [_call(call, number, padded) for number, call in enumerate(cast("Sequence[Any]", value), 1)]


def _call(call: Any, number: int, padded: bool) -> Turn:
    if isinstance(call, str):
        call = _parsed(call, otherwise=None)
    if not isinstance(call, Mapping):
        raise NotATurn(f"has a tool call ({number}) that is no object")
    given = {str(key): item for key, item in cast("Mapping[Any, Any]", call).items() if item is not None}
    if given.get("type", "function") != "function":
        return given
    function = given.get("function", given)
    if isinstance(function, str):
        function = {**given, "name": function}
    name = function.get("name") if isinstance(function, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(name, str) or not name:
        raise NotATurn(f"has a tool call ({number}) without a function's name")
    function = cast("Mapping[str, Any]", function)
    arguments: Any = next(
        (function[name] for name in ("arguments", "parameters", "args", "input") if function.get(name) is not None),
        None,
    )
    if isinstance(arguments, str):
        parsed: Any = _parsed(arguments, otherwise=None) if arguments.strip() else {}
        arguments = cast("Any", parsed if isinstance(parsed, dict) else arguments)
    elif padded:
        arguments = without_nulls(arguments)
    about = {"id": str(given["id"])} if given.get("id") not in (None, "") else {}
    return {
        **about,
        "type": "function",
        "function": {"name": name, "arguments": {} if arguments is None else arguments},
    }


def _with_thought(given: Mapping[str, Any], text: str, parts: list[Turn] | None) -> tuple[str, list[Turn] | None]:
    thought = next((given[name] for name in THOUGHTS if isinstance(given.get(name), str)), "").strip()
    if not thought or text.lstrip().startswith("<think>"):
        return text, parts
    before = f"<think>\n{thought}\n</think>\n\n"
    if parts is None:
        return before + text, None
    return f"{before}\n{text}", [{"type": "text", "text": before}, *parts]


def calls_of(value: Any) -> str | None:
    """Return tool calls, however they are written, as a turn keeps them; None where there are none."""
    calls = _calls(value, padded=False)
    return None if calls is None else _json(calls)


def tools_column(values: Sequence[Any], *, padded: bool = False) -> tuple[pl.Series, list[int]]:
    """Return a column of tools' descriptions as the contracts have it, and the rows (from 0) that have something else.

    Args:
        padded: the values come from a table, where objects have the names of all rows': nulls are none.
    """
    found = [None if value is None else tools_of(value, padded=padded) for value in values]
    nothing: tuple[Any, ...] = (None, [], "", "[]", "null")
    other = [
        row
        for row, (tools, value) in enumerate(zip(found, values, strict=True))
        if tools is None and (value.strip() if isinstance(value, str) else value) not in nothing
    ]
    return pl.Series("tools", found, dtype=pl.String), other


def tools_of(value: Any, *, padded: bool = False) -> str | None:
    """Return what describes the tools of a conversation, as a JSON list; None where the value is something else.

    Taken are lists (or their JSON) of OpenAI's ``{"type": "function", "function": {"name", ...}}``, of the functions
    alone, and of Anthropic's tools, whose ``input_schema`` becomes ``parameters``.
    """
    if isinstance(value, str):
        value = _parsed(value, otherwise=None)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not value:
        return None
    found: list[Turn] = []
    for tool in cast("list[Any]", value):
        tool = _parsed(tool, otherwise=None) if isinstance(tool, str) else tool
        if not isinstance(tool, Mapping):
            return None
        given = cast("dict[str, Any]", without_nulls(tool) if padded else tool)
        function: Any = given.get("function", given)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):  # pyright: ignore[reportUnknownMemberType]
            return None
        if "input_schema" in function:
            function = {
                name: item for name, item in cast("Mapping[str, Any]", function).items() if name != "input_schema"
            }
            function["parameters"] = given["input_schema"]
        found.append(given if "function" in given else {"type": "function", "function": function})
    return _json(found)


def _parsed(text: str, otherwise: Any = ...) -> Any:
    """Return what a text of JSON (or of Python, as tables of CSV have it) holds."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        if otherwise is ...:
            raise NotATurn("is neither a list of turns nor the JSON of one") from None
        return otherwise


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
