"""Rows as a source has them, before anybody knows what they mean."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import BadInput
from schemas.later import pl


def _as_text(value: Any) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)


as_json = json.JSONEncoder(sort_keys=True, default=_as_text).encode
"""A value as the JSON that is kept of it."""


@dataclass(frozen=True)
class Rows:
    """A source's rows, a column each.

    Attributes:
        table: columns of plain values, and nested ones of files that have dtypes.
        objects: columns of a JSON file with lists, objects, or numbers of several kinds, as Python values: each row
            keeps its own shape, and none is bent to that of its neighbours.
        split: the split that the rows were chosen by, where their file has several.
    """

    table: pl.DataFrame
    objects: Mapping[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    split: str | None = None

    @property
    def columns(self) -> list[str]:
        return [*self.table.columns, *self.objects]

    def __len__(self) -> int:
        return len(self.table) if self.table.width else max(map(len, self.objects.values()), default=0)

    def is_nested(self, name: str) -> bool:
        """Whether a column's values are lists or objects."""
        if name in self.objects:
            return any(isinstance(value, list | dict) for value in self.objects[name])
        return self.table.schema[name].is_nested()

    def is_empty(self, name: str) -> bool:
        """Whether a column is known to have no value in any row of its source."""
        return name not in self.objects and self.table.schema[name] == pl.Null

    def is_truth(self, name: str) -> bool:
        """Whether a column's values are true or false."""
        return name not in self.objects and self.table.schema[name] == pl.Boolean

    def values(self, name: str) -> list[Any]:
        """Return a column's values as Python's: lists and dictionaries where they are nested."""
        return self.objects[name] if name in self.objects else self.table[name].to_list()

    def first(self, name: str) -> Any:
        """Return a column's first value that is there, None where it has none."""
        if name in self.objects:
            return next((value for value in self.objects[name] if value is not None), None)
        there = self.table[name].drop_nulls().head(1).to_list()
        return there[0] if there else None

    def texts(self, name: str, source: str = "") -> pl.Series:
        """Return a column of plain values as texts.

        Raises:
            BadInput: a value that is a list or an object, or no text; with its row.
        """
        if name in self.objects:
            for number, value in enumerate(self.objects[name], 1):
                if isinstance(value, list | dict):
                    raise BadInput(f"'{source}', row {number}: '{name}' holds a list or an object, not a text")
            return pl.Series(name, [text_of(value) for value in self.objects[name]], dtype=pl.String)
        if self.table.schema[name].is_nested():
            row = int(self.table[name].is_not_null().arg_max() or 0) + 1
            raise BadInput(f"'{source}', row {row}: '{name}' holds a list or an object, not a text")
        try:
            return self.table[name].cast(pl.String)
        except pl.exceptions.PolarsError as error:
            raise BadInput(f"'{source}': '{name}' can't be read as text: {error}") from error

    def head(self, count: int) -> Rows:
        return Rows(self.table.head(count), {name: values[:count] for name, values in self.objects.items()})

    def take(self, places: Sequence[int]) -> Rows:
        """Return the rows at these places, from 0."""
        return Rows(self.table[list(places)], {n: [values[i] for i in places] for n, values in self.objects.items()})

    def with_columns(self, *columns: pl.Series) -> Rows:
        """Return the rows with columns added, or put in the place of others of their names."""
        names = {column.name for column in columns}
        table = pl.DataFrame({**{c.name: c for c in self.table.get_columns()}, **{c.name: c for c in columns}})
        return Rows(table, {n: v for n, v in self.objects.items() if n not in names})

    def select(self, names: Iterable[str]) -> Rows:
        kept = [*names]
        plain = [name for name in kept if name not in self.objects]
        columns = [self.table.get_column(name) for name in plain]  # a name such as * means itself
        return Rows(pl.DataFrame(columns), {name: self.objects[name] for name in kept if name in self.objects})

    def rename(self, names: Mapping[str, str]) -> Rows:
        """Return the rows with columns named anew: old -> new."""
        plain = {old: new for old, new in names.items() if old not in self.objects}
        return Rows(self.table.rename(plain), {names.get(name, name): values for name, values in self.objects.items()})

    def frame(self) -> pl.DataFrame:
        """Return the rows as a table: what has no dtype is JSON text."""
        made = [
            pl.Series(name, [None if value is None else as_json(value) for value in values], dtype=pl.String)
            for name, values in self.objects.items()
        ]
        return pl.DataFrame([*self.table.get_columns(), *made])


def parsed(value: Any) -> Any:
    """Return what a text of JSON (or of Python, as tables of CSV have it) holds; anything else as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return value


def text_of(value: Any) -> str | None:
    """Return a single value as the text that a model would write; None where it is no value."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return pl.Series([value]).cast(pl.String)[0]
    return str(value)


def together(tables: Sequence[Rows], source: str) -> Rows:
    """Return several files' rows as one; columns that only some have are null in the others.

    Raises:
        BadInput: a column is of one kind here and of another there.
    """
    if len(tables) == 1:
        return tables[0]
    loose = {name: None for rows in tables for name in rows.objects}
    objects = {
        name: [
            value for rows in tables for value in (rows.values(name) if name in rows.columns else [None] * len(rows))
        ]
        for name in loose
    }
    try:
        plain = [
            pl.DataFrame([*rows.table.drop(loose, strict=False), pl.Series("__row", [None] * len(rows), dtype=pl.Null)])
            for rows in tables
        ]
        return Rows(pl.concat(plain, how="diagonal_relaxed").drop("__row"), objects)
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"'{source}': its files don't fit together: {error}. Load them one by one") from error
