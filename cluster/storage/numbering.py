"""Numbers of problems: a problem's key is looked up once, and after that it is a number.

The problems of a run are numbered in the order of their keys, which is the order of the rows of their snapshot: number
7 is row 7. Keys that a store has beyond these, from other runs, get the next numbers as they are met. Keys are kept
as one array of bytes, never as objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cluster.storage.ranges import KEYED, Ints, Ranges

Keys = NDArray[np.bytes_]
"""Problem keys in UTF-8, as wide as the longest."""
ALIKE = 16
"""Where more keys than this have the same first eight bytes, these tell too little, and keys are compared whole."""


class Numbering:
    """Which number each key has.

    Args:
        keys: those of a run's problems, in the order of the keys and each once, some at a time; they get the numbers
            from 0.
    """

    def __init__(self, keys: Iterable[pl.Series] = ()) -> None:
        self._base, self._is_packed = _joined(keys)
        self._others = _Index(np.empty(0, "S1"))
        self._added = np.empty(0, "S1")
        """The other keys, in the order in which they were met."""

    @property
    def problems(self) -> int:
        """How many problems the run has: their numbers are those below."""
        return len(self._base.keys)

    def __len__(self) -> int:
        return len(self._base.keys) + len(self._added)

    @property
    def repeats(self) -> bool:
        """Whether a run's problem is there twice (which it mustn't)."""
        keys = self._base.keys
        return bool((keys[1:] == keys[:-1]).any())

    def find(self, keys: pl.Series) -> Ints:
        """Return the number of each key; -1 where it has none."""
        return self._find(as_bytes(keys))

    def _find(self, wanted: Keys) -> Ints:
        if self._is_packed:
            short, fits = packed(wanted)
            numbers = np.where(fits, self._base.find(short), -1)
        else:
            numbers = self._base.find(wanted)
        unknown = numbers < 0
        if len(self._added) and unknown.any():
            numbers[unknown] = self._others.find(wanted[unknown])
        return numbers

    def number(self, keys: pl.Series) -> Ints:
        """Return the number of each key; one that wasn't known gets the next."""
        wanted = as_bytes(keys)
        numbers = self._find(wanted)
        unknown = numbers < 0
        if unknown.any():
            fresh, at = np.unique(wanted[unknown], return_inverse=True)
            numbers[unknown] = len(self) + at
            self._added = np.concatenate([self._added, fresh]) if len(self._added) else fresh
            order = np.argsort(self._added, kind="stable")
            self._others = _Index(self._added[order], order + self.problems)
        return numbers

    def keys(self, numbers: Ints) -> pl.Series:
        """Return the key of each number."""
        own = numbers < self.problems
        base = self._base.keys[numbers[own]]
        base = unpacked(base) if self._is_packed else base
        if len(base) == len(numbers):
            return as_text(base)
        found = np.empty(len(numbers), np.promote_types(base.dtype, self._added.dtype))
        found[own] = base
        found[~own] = self._added[numbers[~own] - self.problems]
        return as_text(found)

    def ranges(self, keyed: pl.DataFrame) -> Ranges:
        """Return keyed ranges by number; a key that wasn't known gets one."""
        first, count = (keyed[name].to_numpy() for name in ("first", "count"))
        return Ranges.of(self.number(keyed["problem_key"]), first, count)

    def known_ranges(self, keyed: pl.DataFrame) -> Ranges:
        """Return by number those of some keyed ranges that are about problems of the run."""
        numbers = self.find(keyed["problem_key"])
        mine = (numbers >= 0) & (numbers < self.problems)
        first, count = (keyed[name].to_numpy()[mine] for name in ("first", "count"))
        return Ranges.of(numbers[mine], first, count)

    def keyed(self, ranges: Ranges) -> pl.DataFrame:
        """Return ranges by key."""
        return pl.DataFrame(
            [self.keys(ranges.numbers), pl.Series("first", ranges.firsts), pl.Series("count", ranges.sizes)],
            schema_overrides=KEYED,
        )


def _joined(keys: Iterable[pl.Series]) -> tuple[_Index, bool]:
    """Return keys that come some at a time as one index, and whether they are packed: all are, or none."""
    short = bytearray()  # it grows where it stands: many keys are never there twice
    rest = map(as_bytes, keys)
    for some in rest:
        data, fits = packed(some)
        if not fits.all():
            found = [unpacked(np.frombuffer(short, "S16")), some, *rest]
            return _Index(np.concatenate(found)), False
        short += data.data
    return _Index(np.frombuffer(short, "S16")), True


class _Index:
    """Sorted keys that are found by their first eight bytes, and compared as a whole.

    Args:
        numbers: of each key; by default its position.
    """

    def __init__(self, keys: Keys, numbers: Ints | None = None) -> None:
        self.keys = keys
        self._numbers = numbers

    @cached_property
    def _heads(self) -> NDArray[np.uint64]:
        return _heads(self.keys)

    @cached_property
    def _longest(self) -> int:
        """How many keys begin alike at most."""
        changes = np.flatnonzero(np.diff(self._heads)) + 1
        return int(np.diff(np.concatenate([[0], changes, [len(self.keys)]])).max())

    def find(self, wanted: Keys) -> Ints:
        """Return the number of each wanted key, -1 where it isn't there."""
        if not len(self.keys) or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        if wanted.itemsize < self.keys.itemsize:
            wanted = wanted.astype(self.keys.dtype)
        last = len(self.keys) - 1
        if self._longest > ALIKE:
            at = np.searchsorted(self.keys, wanted).clip(max=last)
        else:
            at = np.searchsorted(self._heads, _heads(wanted)).clip(max=last)
            for _ in range(self._longest - 1):
                other = np.flatnonzero(self.keys[at] < wanted)
                at[other] = (at[other] + 1).clip(max=last)
        numbers = at if self._numbers is None else self._numbers[at]
        return np.where(self.keys[at] == wanted, numbers, -1)


def _heads(keys: Keys) -> NDArray[np.uint64]:
    """Return the first eight bytes of each key as a number of the same order."""
    width = keys.itemsize
    bytes_ = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), width)
    head = np.zeros((len(keys), 8), np.uint8)
    head[:, : min(8, width)] = bytes_[:, :8]
    return head.reshape(-1).view(">u8").astype(np.uint64)


DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
VALUES = np.full(256, 255, np.uint8)
VALUES[DIGITS] = np.arange(16)


def packed(keys: Keys) -> tuple[Keys, NDArray[np.bool_]]:
    """Return keys in half the space and the same order, and which of them fit: those of 32 hexadecimal digits."""
    if keys.itemsize < 32:
        keys = keys.astype("S32")
    text = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), keys.itemsize)
    values = VALUES[text[:, :32]]
    fits: NDArray[np.bool_] = np.logical_and((values < 16).all(axis=1), ~text[:, 32:].any(axis=1))
    return (values[:, 0::2] << 4 | values[:, 1::2] & 15).reshape(-1).view("S16"), fits


def unpacked(keys: Keys) -> Keys:
    """Return what was ``packed``."""
    values = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), 16)
    return np.stack([DIGITS[values >> 4], DIGITS[values & 15]], axis=-1).reshape(-1).view("S32")


def as_bytes(keys: pl.Series) -> Keys:
    """Return keys as an array of bytes."""
    text = keys.rechunk().to_arrow().cast(pa.large_binary())
    if not len(text):
        return np.empty(0, "S1")
    offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    lengths = np.diff(offsets)
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    width = max(1, int(lengths.max()))
    if int(lengths.min()) == width:
        return data.view(f"S{width}").copy()
    padded = np.zeros((len(text), width), np.uint8)
    padded[np.arange(width) < lengths[:, None]] = data
    return padded.reshape(-1).view(f"S{width}")


def as_text(keys: Keys) -> pl.Series:
    """Return an array of keys as a column."""
    width = keys.itemsize
    lengths = np.char.str_len(keys)
    data = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), width)
    if len(keys) and int(lengths.min()) < width:
        data = data[np.arange(width) < lengths[:, None]]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pl.Series("problem_key", pa.Array.from_buffers(pa.large_string(), len(keys), buffers))
