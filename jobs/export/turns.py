"""Turns as trainers' files have them: the fields that a data set uses, calls as structures."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from schemas.conversation import MORE, turns_dtype
from schemas.errors import BadInput

CALLS = pl.List(
    pl.Struct({"id": pl.String, "type": pl.String, "function": pl.Struct({"name": pl.String, "arguments": pl.String})})
)
"""Tool calls in OpenAI's form: the arguments are a text of JSON, since Parquet has no type for any object."""


def narrowed(rows: pl.LazyFrame) -> tuple[pl.LazyFrame, frozenset[str]]:
    """Return rows whose turns have the fields that any of them uses, and which of ``MORE`` and ``tools`` these are.

    Rows of plain turns have ``role`` and ``content`` and no ``tools``, as trainers know them best.
    """
    schema = rows.collect_schema()
    columns = [name for name, dtype in schema.items() if dtype == turns_dtype()]
    turn = pl.element().struct
    here = [
        pl.col(name).list.eval(turn.field(field).is_not_null()).list.any().any().alias(f"{name} {field}")
        for name in columns
        for field in MORE
    ]
    here += [pl.col("tools").is_not_null().any()] if "tools" in schema else []
    found = rows.select(here).collect(engine="streaming").row(0, named=True) if here else {}
    used = frozenset(name.rpartition(" ")[2] for name, there in found.items() if there)
    calls = turn.field("tool_calls").map_elements(_structured, return_dtype=CALLS, skip_nulls=True)
    special = {"tool_calls": calls.alias("tool_calls")}
    names = ("role", "content", *(name for name in MORE if name in used))
    fields = [special.get(name, turn.field(name)) for name in names]
    kept = rows.with_columns(pl.col(name).list.eval(pl.struct(fields)) for name in columns)
    return (kept.drop("tools") if "tools" in schema and "tools" not in used else kept), used


def calls_as_text(calls: pl.Expr) -> pl.Expr:
    """Return calls (``CALLS``) as ShareGPT's turns have them: JSON of ``{name, arguments}``, a list of several."""
    return calls.map_elements(_in_words, return_dtype=pl.String, skip_nulls=True)


def _in_words(calls: Any) -> str:
    found = [
        {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])} for call in calls
    ]
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False)


def _structured(calls: str) -> list[dict[str, Any]]:
    """Return stored calls with their arguments as text (a loop over the calls alone: JSON has no columns).

    Raises:
        BadInput: a call of another type than a function's.
    """
    found: list[dict[str, Any]] = json.loads(calls)
    for call in found:
        if "function" not in call:
            raise BadInput(f"a tool call of type '{call.get('type')}' has no place in a training set; leave it out")
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return found
