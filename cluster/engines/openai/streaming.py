"""An answer that comes piece by piece (server-sent events), put together as if it had come whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from cluster.engines.openai.verdicts import error_in

TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "text")
"""Fields of a piece that are joined."""


class Cut(Exception):
    """The stream ended before the answer did."""


class Pieces:
    """One answer that is still coming."""

    def __init__(self) -> None:
        self._rest = b""
        self._choices: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}
        """Index of a choice, and field -> its pieces."""
        self._answer: dict[str, Any] = {}

    @property
    def begun(self) -> bool:
        """Whether anything of an answer came."""
        return bool(self._choices)

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: they are no events of such a stream.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.strip())

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return  # comments that keep the connection alive, names of events
        data = line.removeprefix(b"data:").strip()
        if data and data != b"[DONE]" and isinstance(piece := json.loads(data), dict):
            self._take(cast("dict[str, Any]", piece))

    def _take(self, piece: dict[str, Any]) -> None:
        for name in ("usage", "x_groq"):
            if piece.get(name):
                self._answer[name] = piece[name]
        if (error := error_in(piece)) is not None:
            self._answer["error"] = error
        for part in piece.get("choices") or []:
            index = part.get("index") or 0
            choice = self._choices.setdefault(index, {"message": {}})
            if piece.get("error"):
                choice["error"] = piece["error"]
            for name, value in part.items():
                if name == "delta":
                    self._join(index, choice["message"], value or {})
                elif name == "text":
                    self._add(index, name, value)
                elif name == "logprobs":
                    _extend(choice.setdefault("logprobs", {}), value or {})
                elif value is not None:
                    choice[name] = value

    def _add(self, index: int, name: str, value: str | None) -> None:
        self._texts.setdefault((index, name), []).append(value or "")

    def _join(self, index: int, message: dict[str, Any], delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if value is None:
                continue
            if name in TEXTS and isinstance(value, str):
                self._add(index, name, value)
            elif name == "tool_calls":
                calls: list[dict[str, Any]] = message.setdefault("tool_calls", [])
                for part in value:
                    _join_call(calls, part)
            elif name == "function_call":
                _join_function(message.setdefault("function_call", {}), value)
            elif isinstance(value, list):
                message[name] = [*(message.get(name) or []), *value]
            else:
                message[name] = value

    def whole(self) -> dict[str, Any]:
        """Return the answer.

        Raises:
            Cut: it isn't whole: a choice has no end, and neither has the stream.
        """
        self.feed(b"\n")
        choices = [self._choices[index] for index in sorted(self._choices)]
        ended = all(choice.get("finish_reason") for choice in choices)
        if not self._answer.get("error") and not (choices and ended):
            raise Cut("the stream ended in the middle" if choices else "the stream held nothing")
        if self._answer.get("error"):
            return self._answer
        for (index, name), texts in self._texts.items():
            choice = self._choices[index]
            (choice if name == "text" else choice["message"])[name] = "".join(texts)
        return {**self._answer, "choices": choices}


def _join_call(calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    at = part.get("index")
    at = len(calls) if at is None else int(at)
    while len(calls) <= at:
        calls.append({"type": "function", "function": {}})
    calls[at] |= {name: part[name] for name in ("id", "type") if part.get(name)}
    _join_function(calls[at]["function"], part.get("function") or {})


def _join_function(function: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name in ("name", "arguments"):
        if part.get(name):
            function[name] = function.get(name, "") + part[name]


def _extend(logprobs: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, values in part.items():
        if isinstance(values, list):
            logprobs.setdefault(name, []).extend(values)
