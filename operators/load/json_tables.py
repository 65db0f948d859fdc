"""One JSON object that holds many rows: an array among other things, columns as pandas writes them, rows by id."""

from __future__ import annotations

from typing import Any, cast

from operators.load.names import ASKING, ID_NAMES, MESSAGE_NAMES, plain
from schemas.errors import BadInput

_TABLES = ("data", "samples", "examples", "rows", "problems", "questions", "instances")
"""Names of the one array of an object that is meant, whatever else stands beside it."""

Row = dict[str, Any]


def rows_of(value: Row, source: str) -> list[Row]:
    """Return the rows that an object holds: itself, where it is one.

    Raises:
        BadInput: it holds several tables, or columns of different lengths.
    """
    items = [*value.values()]
    if {"columns", "data"} <= value.keys() and all(isinstance(value[name], list) for name in ("columns", "data")):
        return _split(value["columns"], value["data"], source)
    tables = {name: cast("list[Row]", item) for name, item in value.items() if is_table(name, item)}
    meant = [name for name in tables if name in _TABLES] or ([*tables] if len(value) == 1 else [])
    if len(meant) == 1:
        return tables[meant[0]]
    if len(tables) > 1 and len(tables) == len(value):
        raise BadInput(
            f"'{source}' holds {len(tables)} tables: {', '.join(tables)}. Say which: load.split={next(iter(tables))}"
        )
    asks = [item for name, item in value.items() if plain(name) in ASKING]
    if asks and all(isinstance(item, dict) for item in items):  # {"question": {"0": ...}, "answer": {"0": ...}}
        columns = {name: cast("Row", item) for name, item in value.items()}
        keys = dict.fromkeys(key for column in columns.values() for key in column)
        return [{name: column.get(key) for name, column in columns.items()} for key in keys]
    if (
        asks and all(isinstance(item, list) for item in items) and _texts(asks[0])
    ):  # {"question": [...], "answer": [...]}
        lengths = {name: len(item) for name, item in value.items()}
        if len({*lengths.values()}) > 1:
            told = ", ".join(f"{name} ({length})" for name, length in lengths.items())
            raise BadInput(f"'{source}': its columns have different lengths: {told}. Give each row a value in each")
        return [dict(zip(value, row, strict=True)) for row in zip(*items, strict=True)]
    if items and all(
        isinstance(item, dict) and any(plain(key) in ASKING for key in cast("Row", item)) for item in items
    ):
        return [_named(key, cast("Row", item)) for key, item in value.items()]
    return [value]


def is_table(name: str, item: Any) -> bool:
    """Whether a value is a list of rows; turns of a conversation are none."""
    if not isinstance(item, list) or not item or not all(isinstance(row, dict) for row in cast("list[Any]", item)):
        return False
    first = cast("list[Row]", item)[0]
    return name not in MESSAGE_NAMES and not ({"role", "from"} & first.keys() and {"content", "value"} & first.keys())


def _texts(item: list[Any]) -> bool:
    return bool(item) and all(isinstance(text, str) for text in item)


def _split(columns: list[Any], data: list[Any], source: str) -> list[Row]:
    names = [str(name) for name in columns]
    for number, row in enumerate(data, 1):
        if not isinstance(row, list) or len(cast("list[Any]", row)) != len(names):
            raise BadInput(
                f"'{source}', row {number} of 'data' must be a list of {len(names)} values, as 'columns' says"
            )
    return [dict(zip(names, row, strict=True)) for row in data]


def _named(key: str, row: Row) -> Row:
    """Return a row with its key as its id, unless it has one."""
    return row if any(name in row for name in ID_NAMES) else {"id": key, **row}
