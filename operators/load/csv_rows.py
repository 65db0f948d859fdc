"""CSV and TSV: a table of texts, whose rows all have the fields that the first line names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from operators.load.checks import Notes
from schemas.errors import BadInput
from schemas.later import pl

_OTHERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NAMED = re.compile("sep=([,;|\t])\r?\n")
"""A first line for spreadsheets."""
_HEAD = 1_000_000
"""Characters that the first line may have."""


def read_csv(data: bytes, text: str, place: str, separator: str, notes: Notes) -> pl.DataFrame:
    """Return a table of texts: "007" and "1.50" are what they are.

    A first line without the separator that the file's name promises, and with another, says what separates.

    Args:
        data: the file's bytes, which are read where they are ASCII.
        text: what they say.

    Raises:
        BadInput: a row with more fields than the first line has, or quotation marks that don't match; with the row.
    """
    named = _NAMED.match(text)
    if named is not None:
        separator, text = named[1], text[named.end() :]
        data = text.encode()
    header = next(_records(text[:_HEAD], separator), list[str]())
    if len(header) == 1:
        for other, name in _OTHERS.items():
            fields = next(_records(text[:_HEAD], other), list[str]())
            if len(fields) > 1 and all(field.strip() for field in fields):
                separator, header = other, fields
                notes.say(f"'{place}': its fields are separated by {name}")
                break
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BadInput(f"'{place}': the column '{twice[0]}' stands twice in the first line; name one of them anew")
    given = io.BytesIO(data if data.isascii() else text.encode())
    try:
        table = pl.read_csv(given, infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        raise BadInput(_wrong(text, place, separator, len(header)) or f"'{place}' can't be read: {error}") from error
    if table.width > 1 and table.to_series(-1).null_count():
        _count_short(text, separator, len(header), notes)
    return table


def _records(text: str, separator: str) -> Iterator[list[str]]:
    """Yield what every line, or several where quotation marks span them, says."""
    csv.field_size_limit(1 << 30)
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator)


def _wrong(text: str, place: str, separator: str, width: int) -> str | None:
    """Return what is wrong with a table that can't be read."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    named = _OTHERS[separator]
    row, line = 0, 1
    try:
        for row, fields in enumerate(records):
            if len(fields) > width:
                return (
                    f"'{place}', row {row} (line {line}): {len(fields)} fields, and the first line names {width}. "
                    f'Texts with {named} in them must stand in quotation marks: "..."'
                )
            line = records.line_num + 1
    except csv.Error:
        row += 1
    else:
        line = next((number for number, one in enumerate(text.split("\n"), 1) if one.count('"') % 2), 0)
        if not line:
            return None
        row = line - 1
    return (
        f"'{place}', row {row} (line {line}): its quotation marks don't match. A text in quotation marks ends with "
        'one, and those within it are doubled: "5"" wide"'
    )


def _count_short(text: str, separator: str, width: int, notes: Notes) -> None:
    """Count rows that end before their last field."""
    for row, fields in enumerate(_records(text, separator)):
        if 0 < len(fields) < width:
            notes.count("with fewer fields than the first line names: the last are empty", row)
