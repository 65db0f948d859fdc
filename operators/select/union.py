"""What several selections read, together: for operators that are made of selections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from operators.base import Operator
from operators.select.selection import Selection
from schemas.contract import Columns
from schemas.later import pl


def selections(methods: Iterable[Operator]) -> list[Selection]:
    """Return operators as the selections they are.

    Raises:
        ValueError: there is none, one isn't a selection, or two have one name.
    """
    found = [method for method in methods if isinstance(method, Selection)]
    others = [method.public_name() for method in methods if not isinstance(method, Selection)]
    if others:
        raise ValueError(f"'{others[0]}' isn't a selection method")
    twice = [name for name, count in Counter(method.method for method in found).items() if count > 1]
    if twice:
        raise ValueError(f"method '{twice[0]}' occurs twice; give one of them another name")
    if not found:
        raise ValueError("there must be at least one method")
    return found


def inputs_of(methods: Iterable[Operator]) -> dict[str, Columns]:
    """Return the inputs of all methods, each with all columns that one of them reads."""
    wanted: dict[str, Columns] = {}
    for method in methods:
        for name, columns in method.inputs.items():
            known = wanted[name].names if name in wanted else ()
            wanted[name] = Columns(columns.contract, tuple(dict.fromkeys((*known, *columns.names))))
    return wanted


def optional_of(methods: Iterable[Operator]) -> frozenset[str]:
    """Return the inputs that no method insists on."""
    methods = list(methods)
    needed = {name for method in methods for name in method.inputs.keys() - method.optional}
    return frozenset(inputs_of(methods).keys() - needed)


def tables_of(method: Operator, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return one method's inputs, with the columns that it reads (and classes of one's own, where there are)."""
    tables: dict[str, Any] = {}
    for name, columns in method.inputs.items():
        table = inputs.get(name)
        extra = ["answer_class"] if table is not None and "answer_class" in table.lazy().collect_schema() else []
        tables[name] = None if table is None else table.select(*columns.names, *extra)
    return tables


def collected(tables: Mapping[str, Any], some: pl.Expr | None = None) -> dict[str, Any]:
    """Return tables as DataFrames, only the rows of ``some`` problems where that is given."""
    lazy = {name: None if table is None else table.lazy() for name, table in tables.items()}
    cut = {name: table if table is None or some is None else table.filter(some) for name, table in lazy.items()}
    return {name: None if table is None else table.collect(engine="streaming") for name, table in cut.items()}
