"""Calls of one function with what they should return, as APPS, TACO, PRIME and LiveCodeBench write them.

APPS and TACO give arguments and results as JSON values, with results often wrapped in a list of one. LiveCodeBench and
PRIME give texts: a JSON value a line for the arguments, one for the result. Python's own writing is read as well.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any, cast

from operators.sandbox import Call


def read_calls(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Call]:
    """Return the calls that lists of inputs and outputs describe.

    Raises:
        ValueError: an input that says no arguments.
    """
    encoded = bool(inputs) and all(isinstance(one, str) for one in inputs)
    found: list[Call] = []
    # results that are all lists of one may be wrapped so; which it is shows in what the program returns
    wrapped = not encoded and all(isinstance(one, list) and len(cast("list[Any]", one)) == 1 for one in outputs)
    for number, (one, other) in enumerate(zip(inputs, outputs, strict=True)):
        try:
            args, kwargs = _arguments(one)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(
                f"inputs.{number}: {one!r:.80} says no arguments; give a list of them, or text with JSON on each line"
            ) from error
        expected = _result(other) if isinstance(one, str) else _with_numbers_as_keys(other)
        found.append(Call(args=tuple(args), kwargs=kwargs, expected=expected, wrapped=wrapped))
    return found


def _arguments(given: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(given, list):
        return [_with_numbers_as_keys(one) for one in cast("list[Any]", given)], {}
    if isinstance(given, dict):
        return [], dict(cast("dict[str, Any]", given))
    if not isinstance(given, str):
        return [given], {}
    lines = [line for line in given.split("\n") if line.strip()]
    try:
        return [json.loads(line) for line in lines], {}
    except ValueError:
        pass
    try:
        return [json.loads(given)], {}  # one value, written over several lines
    except ValueError:
        pass
    try:
        return [ast.literal_eval(line.strip()) for line in lines], {}
    except (ValueError, SyntaxError):
        pass
    call = ast.parse(f"f({given.strip()})", mode="eval").body  # "nums = [2, 7], target = 9"
    if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError
    keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return [ast.literal_eval(one) for one in call.args], keywords


def _result(text: Any) -> Any:
    """Return the value that a text says; a text that says none is the value."""
    if not isinstance(text, str):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _with_numbers_as_keys(value: Any) -> Any:
    """Return a JSON value with the keys of objects as the numbers that they were before they were written as JSON."""
    if isinstance(value, list):
        return [_with_numbers_as_keys(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    known = {key: _with_numbers_as_keys(one) for key, one in cast("dict[str, Any]", value).items()}
    if known and all(key.removeprefix("-").isdecimal() for key in known):
        return {int(key): one for key, one in known.items()}
    return known
