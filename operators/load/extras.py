"""What rides along: columns of JSON objects, and everything that has no column of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, cast

from operators.load.rows import Rows, as_json
from schemas.conversation import Turn
from schemas.errors import BadInput
from schemas.later import pl

CUT = "cut_turns"
"""The metadata field that keeps what the assistant had said at the end of a conversation."""


def json_objects(rows: Rows, name: str, source: str) -> pl.Series:
    """Return a column of JSON objects, as text; nulls where there is no such column.

    Raises:
        BadInput: a value that isn't one; with its row.
    """
    if name not in rows.columns:
        return pl.Series(name, [None] * len(rows), dtype=pl.String)
    texts: list[str | None] = []
    for number, value in enumerate(rows.values(name), 1):
        if isinstance(value, str):
            if not value.strip():
                value = None
            else:
                try:
                    value = json.loads(value)
                except (ValueError, RecursionError) as error:
                    raise BadInput(
                        f"'{source}', row {number}: '{name}' is not valid JSON: {error}. Mend it, or leave it out with "
                        "load.columns={" + name + ": null}"
                    ) from error
        if value is not None and not isinstance(value, Mapping):
            raise BadInput(f"'{source}', row {number}: '{name}' must be a JSON object")
        texts.append(None if value is None else as_json(value))
    return pl.Series(name, texts, dtype=pl.String)


def metadata_of(rows: Rows, used: set[str], cut: Mapping[int, list[Turn]], source: str) -> pl.Series:
    """Return everything that has no column of its own, one JSON object a row.

    A ``metadata`` that holds anything but JSON objects rides along under its own name.
    """
    own = _own(rows)
    names = [name for name in rows.columns if name not in used and (name != "metadata" or own is None)]
    pieces = [(json.dumps(name) + ": ", _encoded(rows, name)) for name in sorted(names)]
    if own is None and not cut:
        return _joined(pieces, len(rows))
    found: list[str | None] = []
    for row in range(len(rows)):
        parts = [head + text for head, texts in pieces if (text := texts[row]) is not None]
        base = None if own is None else own[row]
        if base is None and row not in cut:
            found.append("{" + ", ".join(parts) + "}" if parts else None)
            continue
        extra: dict[str, Any] = {**(base or {}), **json.loads("{" + ", ".join(parts) + "}")}
        if row in cut:
            extra[CUT] = [{key: item for key, item in turn.items() if item is not None} for turn in cut[row]]
        found.append(as_json(extra) if extra else None)
    return pl.Series("metadata", found, dtype=pl.String)


def _joined(pieces: list[tuple[str, list[str | None]]], count: int) -> pl.Series:
    """Return the JSON objects of all rows at once; null where a row has none of the fields."""
    if not pieces:
        return pl.Series("metadata", [None], dtype=pl.String).new_from_index(0, count)
    fields = [pl.Series(str(number), texts, dtype=pl.String) for number, (_, texts) in enumerate(pieces)]
    texts = [pl.lit(head) + pl.col(field.name) for (head, _), field in zip(pieces, fields, strict=True)]
    whole = pl.lit("{") + pl.concat_str(texts, separator=", ", ignore_nulls=True) + pl.lit("}")
    there = pl.any_horizontal(pl.all().is_not_null())
    return pl.DataFrame(fields).select(metadata=pl.when(there).then(whole)).to_series()


def _own(rows: Rows) -> list[dict[str, Any] | None] | None:
    """Return the metadata that rows bring as JSON objects; None where there is something else in the column."""
    if "metadata" not in rows.columns:
        return None
    found: list[dict[str, Any] | None] = []
    for value in rows.values("metadata"):
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else None
            except (ValueError, RecursionError):
                return None
        if value is not None and not isinstance(value, Mapping):
            return None
        found.append(cast("dict[str, Any] | None", value))
    return found


def _encoded(rows: Rows, name: str) -> list[str | None]:
    """Return a column's values as JSON."""
    if name in rows.objects:
        return [None if value is None else as_json(value) for value in rows.objects[name]]
    values = rows.table[name]
    if values.dtype.is_integer():
        return values.cast(pl.String).to_list()
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.dtype == pl.String:
        return [None if value is None else encode_basestring_ascii(value) for value in values.to_list()]
    return [None if value is None else as_json(value) for value in values.to_list()]
