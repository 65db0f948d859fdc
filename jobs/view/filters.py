"""Which samples are wanted: read from an address, asked of the index a chunk at a time.

    verdict=wrong,timeout & finish=length & tokens=1000- & answer=42 & kept=pruned & trained=no

Values of one name are alternatives, names are added up. ``problem`` is a problem's key; ``index`` chooses one of
its samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.view.index import FLAGS, STATUS, VERDICTS, Array, Index, Slots, hashed
from jobs.view.slots import Places
from schemas.errors import BadInput

CODED = ("verdict", "status", "finish", "model", "kept", "trained", "chosen")
RANGES = ("tokens", "score")
SORTS = ("tokens", "score")
NAMES = (*CODED, *RANGES, "answer", "episode", "problem", "index")
_RANGE = re.compile(r"^(-?[\d.]+(?:e-?\d+)?)?\.\.(-?[\d.]+(?:e-?\d+)?)?$")


def names_of(index: Index, column: str) -> list[str]:
    """Return what a coded column's codes mean."""
    fixed = {"verdict": VERDICTS, "status": STATUS, "trained": FLAGS, "chosen": FLAGS}
    return list(fixed[column]) if column in fixed else index.names[column]


@dataclass(frozen=True)
class Filter:
    """What is wanted of the rows between two places.

    Attributes:
        codes: column -> the codes that fit, as a table of 256 truths.
        ranges: column -> smallest and largest value; an end that is None is open.
        equal: column -> values that fit.
    """

    first: int
    end: int
    codes: Mapping[str, Array] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    equal: Mapping[str, list[int]] = field(default_factory=dict)

    def mask(self, index: Index, first: int, end: int) -> Array:
        """Return which rows from ``first`` to before ``end`` are there and fit."""
        return self._mask(lambda name: index.read(name, first, end))

    def at(self, index: Index, slots: Slots) -> Array:
        """Return which of some places are there and fit."""
        inside = (slots >= self.first) & (slots < self.end)
        return inside & self._mask(lambda name: index.at(name, slots))

    def _mask(self, column_of: Callable[[str], Array]) -> Array:
        fits = column_of("status") > 0
        for name, table in self.codes.items():
            fits &= table[column_of(name)]
        for name, values in self.equal.items():
            fits &= np.isin(column_of(name), np.array(values))
        for name, (low, high) in self.ranges.items():
            column = column_of(name)
            if low is not None:
                fits &= column >= low
            if high is not None:
                fits &= column <= high
        return fits

    def found(self, index: Index, after: int = -1) -> Iterator[Slots]:
        """Yield the places that fit behind ``after``, in order."""
        for first, end in index.chunks(max(self.first, after + 1), self.end):
            yield np.flatnonzero(self.mask(index, first, end)) + first

    def page(self, index: Index, after: int, limit: int) -> Slots:
        """Return the first so many places that fit behind ``after``."""
        pieces: list[Slots] = []
        count = 0
        for piece in self.found(index, after):
            pieces.append(piece)
            count += len(piece)
            if count >= limit:
                break
        return np.concatenate(pieces)[:limit] if pieces else np.zeros(0, np.int64)

    def count(self, index: Index) -> int:
        """Return how many fit."""
        return sum(
            int(np.count_nonzero(self.mask(index, first, end))) for first, end in index.chunks(self.first, self.end)
        )

    def sorted_page(self, index: Index, column: str, descending: bool, offset: int, limit: int) -> Slots:
        """Return a page of what fits, the smallest (or largest) first; rows without a value are left out."""
        best = np.zeros(0, np.int64)
        values = np.zeros(0, np.float64)
        for first, end in index.chunks(self.first, self.end):
            column_values = index.read(column, first, end).astype(np.float64)
            at = np.flatnonzero(self.mask(index, first, end) & ~np.isnan(column_values))
            keys = -column_values[at] if descending else column_values[at]
            best, values = np.concatenate([best, at + first]), np.concatenate([values, keys])
            if len(best) > offset + limit:
                kept = _smallest(values, offset + limit)
                best, values = best[kept], values[kept]
        return best[np.argsort(values, kind="stable")][offset : offset + limit]


def _smallest(values: Array, number: int) -> Slots:
    """Return the positions of the smallest values, in order of position; of equal ones the first."""
    last = np.partition(values, number - 1)[number - 1]
    below = np.flatnonzero(values < last)
    equal = np.flatnonzero(values == last)[: number - len(below)]
    return np.sort(np.concatenate([below, equal]))


def read_filter(asked: Mapping[str, str], index: Index, places: Places) -> Filter:
    """Return the filter that an address's names and values stand for; other names are let be.

    Raises:
        BadInput: a value that can't be.
    """
    first, end = 0, len(places)
    codes: dict[str, Array] = {}
    ranges: dict[str, tuple[float | None, float | None]] = {}
    equal: dict[str, list[int]] = {}
    for name, text in asked.items():
        if name not in NAMES or not text:
            continue
        if name in CODED:
            codes[name] = _table(index, name, text)
        elif name in RANGES:
            ranges[name] = _range(name, text)
        elif name == "answer":
            equal[name] = [hashed(text)]
        elif name == "episode":
            equal[name] = [_whole(name, text) + 1]
        elif name == "problem":
            number = places.number(text)
            first, end = (0, 0) if number is None else places.span(number)
    if asked.get("index"):
        slot = places.slot(asked.get("problem", ""), _whole("index", asked["index"]))
        first, end = (0, 0) if slot is None else (slot, slot + 1)
    return Filter(first, end, codes, ranges, equal)


def _table(index: Index, name: str, text: str) -> Array:
    known = names_of(index, name)
    table = np.zeros(256, np.bool_)
    for value in text.split(","):
        if name == "kept" and value == "pruned":
            table[2:] = True
        elif name == "trained" and value == "no":
            table[[0, 1]] = True
        elif value == "none":
            table[0] = True
            if value in known:
                table[known.index(value)] = True
        elif value in known:
            table[known.index(value)] = True
    return table


def _range(name: str, text: str) -> tuple[float | None, float | None]:
    found = _RANGE.match(text)
    if found is None:
        raise BadInput(f"{name}: say a range, such as 100..200, 100.. or ..200")
    try:
        low, high = (None if end is None else float(end) for end in found.groups())
    except ValueError as error:
        raise BadInput(f"{name}: {text} isn't a range") from error
    return low, high


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise BadInput(f"{name}: say a number")
    return int(text)


def described(index: Index, slots: Slots) -> list[dict[str, Any]]:
    """Return what the index says of some places."""
    columns = {name: names_of(index, name) for name in CODED}
    table: dict[str, list[Any]] = {}
    for name, known in columns.items():
        table[name] = [known[code] if code < len(known) else "other" for code in index.at(name, slots)]
    table["tokens"] = index.at("tokens", slots).tolist()
    table["score"] = [None if np.isnan(one) else round(float(one), 6) for one in index.at("score", slots)]
    table["episode"] = [None if one == 0 else int(one) - 1 for one in index.at("episode", slots)]
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
