"""One file's bytes, as rows: Parquet, Arrow, JSON, CSV and TSV, each also ``.gz``; and the text they are in."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import zlib
from dataclasses import replace
from pathlib import Path

from operators.load.checks import Notes
from operators.load.csv_rows import read_csv
from operators.load.json_rows import Kinds, read_json, read_lines
from operators.load.rows import Rows
from schemas.errors import BadInput
from schemas.later import pl

SUFFIXES = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def suffix_of(place: str) -> str:
    """Return what kind of file a place is: ``.jsonl`` of ``rows.jsonl.gz``."""
    return Path(place.removesuffix(".gz")).suffix.lower()


def read_bytes(data: bytes, place: str, encoding: str | None, notes: Notes, split: str | None = None) -> Rows:
    """Return the rows of one file.

    Args:
        place: its name: the suffix says what it is, and messages name it.
        encoding: of text files; None for UTF-8 (or what a byte-order mark says).
        split: which table of a JSON file that has one for each split.

    Raises:
        BadInput: it is of another kind, or can't be read; with the place in it.
    """
    if place.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"'{place}' can't be unpacked: {error}") from error
    suffix = suffix_of(place)
    if suffix not in SUFFIXES:
        raise BadInput(f"'{place}': unknown kind of file '{suffix}'; readable: {', '.join(SUFFIXES)}, each also .gz")
    if not data.strip():
        raise BadInput(f"'{place}' is empty")
    try:
        if suffix == ".parquet":
            return Rows(pl.read_parquet(io.BytesIO(data)))
        if suffix == ".arrow":  # a file begins with a mark, a stream (as datasets are saved) doesn't
            read = pl.read_ipc if data.startswith(b"ARROW1") else pl.read_ipc_stream
            return Rows(read(io.BytesIO(data)))
        if suffix in _SEPARATORS:
            return Rows(read_csv(data, decode(data, place, encoding), place, _SEPARATORS[suffix], notes))
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"'{place}' can't be read: {error}") from error
    text = decode(data, place, encoding)
    first = text.lstrip().partition("\n")[0].strip()
    if suffix != ".json" and first not in ("[", "{") and not first.startswith(("[{", "[ {")):
        found = read_lines(text, place, notes)
        return Kinds().see(found).rows(found)
    found, chosen = read_json(text, place, notes, split)
    return replace(Kinds().see(found).rows(found), split=chosen)


def decode(data: bytes, place: str, encoding: str | None = None) -> str:
    """Return a file's text; a byte-order mark says what it is in, and is no part of it.

    Raises:
        BadInput: a byte that doesn't fit the encoding, with its line; an encoding that there isn't.
    """
    name = encoding or next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(name).removeprefix("\ufeff")
    except LookupError as error:
        known = ["utf-8", "latin-1", "cp1252", "utf-16", "shift_jis", "gb18030", "big5", "euc_kr", "koi8-r"]
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; such as {', '.join(known[:4])}"
        raise BadInput(f"load.encoding '{name}' isn't an encoding that Python knows{hint}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place_in_line = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        remedy = "Save it as UTF-8, or say what it is in: load.encoding=latin-1 (or cp1252, utf-16, ...)"
        raise BadInput(
            f"'{place}', line {line}, byte {place_in_line} (0x{data[error.start]:02x}, at {error.start:,} of the file) "
            f"isn't {name.removesuffix('-sig').upper()}. {remedy}"
        ) from error
