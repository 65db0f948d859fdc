"""Rows as a source has them, before anybody knows what they mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Rows:
    """A source's rows, a column each.

    Attributes:
        table: values as they are. Lists and objects of a JSON file are JSON text: each row keeps its own shape, and
            none is bent to that of its neighbours.
        nested: the columns of ``table`` that hold such text.
    """

    table: pl.DataFrame
    nested: frozenset[str] = frozenset()

    @property
    def columns(self) -> list[str]:
        return self.table.columns

    def __len__(self) -> int:
        return len(self.table)

    def is_nested(self, name: str) -> bool:
        """Whether a column's values are lists or objects."""
        return name in self.nested or self.table.schema[name].is_nested()

    def values(self, name: str) -> list[Any]:
        """Return a column's values as Python's: lists and dictionaries where they are nested."""
        found = self.table[name].to_list()
        if name not in self.nested:
            return found
        return [None if text is None else json.loads(text) for text in found]

    def head(self, count: int) -> Rows:
        return Rows(self.table.head(count), self.nested)

    def select(self, names: Iterable[str]) -> Rows:
        kept = list(names)
        return Rows(self.table.select(kept), self.nested & frozenset(kept))

    def rename(self, names: Mapping[str, str]) -> Rows:
        """Return the rows with columns named anew: old -> new."""
        return Rows(self.table.rename(dict(names)), frozenset(names.get(name, name) for name in self.nested))

    def filter(self, kept: pl.Series) -> Rows:
        return Rows(self.table.filter(kept), self.nested)


def as_json(value: Any) -> str:
    """Return a value as the JSON that is kept of it."""
    return json.dumps(value, sort_keys=True, default=str)
