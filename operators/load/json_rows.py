"""JSON as people have it: lines, an array, one object; every line checked, every value kept as it was written.

What the standard reader takes without a word is refused here with the line: a key twice in one object, numbers of
thousands of digits, bottomless nesting. Halves of surrogate pairs, which no file can hold, become U+FFFD and are
counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, cast

from operators.load.checks import Notes
from operators.load.json_tables import is_table, rows_of
from operators.load.rows import Rows, as_json
from schemas.errors import BadInput
from schemas.later import pl

_HALVES = re.compile("[\ud800-\udfff]")
_DEEPEST = 200
_LEAST, _MOST = -(2**63), 2**63 - 1


class _Twice(ValueError):
    """A key that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_scan = cast(Any, _decoder).scan_once


def _decode(line: str) -> Any:
    """Return the value of a line; most begin and end with it, and need no look at what is around."""
    text = line.strip(" \t\r")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decoder.decode(line)
    return value if end == len(text) else _decoder.decode(line)


def read_json(
    text: str, source: str, notes: Notes, split: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the objects of a ``.json`` file: of an array, of lines, or of one object that holds them.

    Args:
        split: which table of an object that has one for each split; it is returned where it says so.

    Raises:
        BadInput: with the line of what can't be read.
    """
    start = text.lstrip()[:1]
    if start == "[":
        return _array(text, text.index("["), source, notes), None
    if start == "{":
        value, end = _value(text, text.index("{"), source)
        if text[end:].strip():  # more than one: a line each, or several
            if "\n" not in text[:end].strip():
                return read_lines(text, source, notes), None
            return _one_after_another(text, source, notes), None
        chosen = split if split is not None and is_table(split, value.get(split)) else None
        return _whole(value[split] if chosen is not None else rows_of(value, source), text, notes), chosen
    raise BadInput(f"'{source}', line 1 is not a JSON object or an array of them")


def _one_after_another(text: str, source: str, notes: Notes) -> list[dict[str, Any]]:
    """Return objects that stand behind one another, each over several lines."""
    blank, at = re.compile(r"\s*"), 0
    rows: list[dict[str, Any]] = []
    while (at := cast("re.Match[str]", blank.match(text, at)).end()) < len(text):
        value, at = _value(text, at, source)
        if not isinstance(value, dict):
            raise BadInput(f"'{source}', line {_line(text, at)}: something that is no JSON object follows one")
        rows.append(value)  # pyright: ignore[reportUnknownArgumentType]
    return _whole(rows, text, notes)


def read_lines(text: str, source: str, notes: Notes) -> list[dict[str, Any]]:
    """Return the objects of JSON lines. Only a line feed ends a line: others may stand inside of strings.

    Raises:
        BadInput: with the line of what can't be read.
    """
    lines = text.split("\n" if "\n" in text else "\r")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        try:
            row = _decode(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(_told(error, source, number)) from error
        if not isinstance(row, dict):
            raise BadInput(f"'{source}', line {number} is not a JSON object{_remedy(row)}")
        if line.count("[") + line.count("{") > _DEEPEST and _depth(row) > _DEEPEST:
            raise BadInput(f"'{source}', line {number} is nested more than {_DEEPEST} deep")
        rows.append(row)  # pyright: ignore[reportUnknownArgumentType]
    return _whole(rows, text, notes)


def _remedy(value: Any) -> str:
    if isinstance(value, str):
        return f". Write {json.dumps({'prompt': value[:40]}, ensure_ascii=False)}"
    return '. Write {"messages": [...]}' if isinstance(value, list) else ""


def _array(text: str, start: int, source: str, notes: Notes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    at, expected = start + 1, "]"
    blank = re.compile(r"[\s,]*")
    while True:
        between = blank.match(text, at)
        assert between is not None
        at = between.end()
        if text[at : at + 1] == "]":
            break
        if rows and between[0].count(",") != 1:
            raise BadInput(f"'{source}', line {_line(text, at)} is not valid JSON: expecting ',' or '{expected}'")
        value, at = _value(text, at, source)
        if not isinstance(value, dict):
            raise BadInput(
                f"'{source}', line {_line(text, at)}: element {len(rows) + 1} is not a JSON object{_remedy(value)}"
            )
        rows.append(value)  # pyright: ignore[reportUnknownArgumentType]
    if text[at + 1 :].strip():
        raise BadInput(f"'{source}', line {_line(text, at)}: something follows the array")
    return _whole(rows, text, notes)


def _value(text: str, at: int, source: str) -> tuple[Any, int]:
    try:
        value, end = _decoder.raw_decode(text, at)
        if _depth(value) > _DEEPEST:
            raise BadInput(f"'{source}', line {_line(text, at)} is nested more than {_DEEPEST} deep")
        return value, end
    except BadInput:
        raise
    except json.JSONDecodeError as error:
        raise BadInput(_told(error, source, error.lineno)) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(_told(error, source, _line(text, at))) from error


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _told(error: Exception, source: str, line: int) -> str:
    where = f"'{source}', line {line}"
    if isinstance(error, _Twice):
        return f"{where}: the key '{error}' stands there twice, and nobody knows which is meant; remove one"
    if isinstance(error, json.JSONDecodeError):
        return f"{where} is not valid JSON: {error}"
    if isinstance(error, RecursionError):
        return f"{where} is nested too deeply to be read"
    return f"{where} can't be read: {str(error).partition(';')[0]}"


def _whole(rows: list[dict[str, Any]], text: str, notes: Notes) -> list[dict[str, Any]]:
    """Replace halves of surrogate pairs, which only an escape can bring."""
    if "\\ud" not in text and "\\uD" not in text:
        return rows
    found = [_mended(row) for row in rows]
    for number, (row, mended) in enumerate(zip(rows, found, strict=True), 1):
        if row is not mended:
            notes.count("with half of a surrogate pair, which became U+FFFD", number)
    return found


def _mended(value: Any) -> Any:
    """Return a value without halves of surrogate pairs: the same object where it has none."""
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value) if _HALVES.search(value) else value
    if isinstance(value, list):
        items: list[Any] = [_mended(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(value, dict):
        pairs: list[tuple[Any, Any]] = [(_mended(key), _mended(item)) for key, item in value.items()]  # pyright: ignore[reportUnknownVariableType]
        same = all(k is a and v is b for (k, v), (a, b) in zip(pairs, value.items(), strict=True))  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
        return value if same else dict(pairs)  # pyright: ignore[reportUnknownVariableType]
    return value


def by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows' values by their names, None where a row has none."""
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(chain.from_iterable(rows))}


class Kinds:
    """Which kinds of values each column of a JSON source has: what its columns become depends on all of its rows."""

    def __init__(self) -> None:
        self.found: dict[str, set[type[Any]]] = {}
        self._long: set[str] = set()

    def see(self, rows: list[dict[str, Any]]) -> Kinds:
        """Take note of more rows."""
        return self.see_columns(by_column(rows))

    def see_columns(self, columns: Mapping[str, list[Any]]) -> Kinds:
        """Take note of more rows, given by column."""
        for name, values in columns.items():
            kinds = set(map(type, values)) - {type(None)}
            self.found[name] = self.found.get(name, set()) | kinds
            if int in kinds and not all(_LEAST <= value <= _MOST for value in values if type(value) is int):
                self._long.add(name)
        return self

    def rows(self, found: list[dict[str, Any]]) -> Rows:
        """Return objects as columns. Text and numbers in one column are text; other mixtures stay as they are."""
        return self.rows_of(len(found), by_column(found))

    def rows_of(self, count: int, found: Mapping[str, list[Any]]) -> Rows:
        """Return so many objects, given by column, as ``rows`` does; a column that isn't there is null."""
        columns: dict[str, pl.Series] = {}
        loose: dict[str, list[Any]] = {}
        for name, kinds in self.found.items():
            values = found[name] if name in found else [None] * count
            if kinds & {list, dict} or kinds == {int, float} or name in self._long:
                loose[name] = values
            elif len(kinds) > 1:
                columns[name] = pl.Series(name, [_text(value) for value in values], dtype=pl.String)
            else:
                columns[name] = pl.Series(
                    name, values, dtype=getattr(pl, _DTYPES[next(iter(kinds))] if kinds else "Null")
                )
        return Rows(pl.DataFrame(columns), loose)


_DTYPES: dict[type[Any], str] = {str: "String", int: "Int64", float: "Float64", bool: "Boolean"}
"""By the names that Polars gives them."""


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else as_json(value)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()  # pyright: ignore[reportUnknownArgumentType]
            elif isinstance(item, list):
                inner += item  # pyright: ignore[reportUnknownArgumentType]
        level = inner
    return depth
