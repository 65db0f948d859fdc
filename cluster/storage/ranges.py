"""Ranges of samples as columns: all that a driver remembers of samples.

A problem has a number (``cluster.storage.numbering``), and sample ``index`` of problem ``number`` is a point on a line,
``number * 2**32 + index``. ``Ranges`` is a table of intervals on that line, in an order that means something: what is
to be drawn, what a file holds. ``RangeSet`` is a set of points, kept as disjoint intervals. Both are a few NumPy arrays
whose size grows with problems and gaps, never with samples, and every operation is about whole tables of ranges.

Workers and files know problems by their keys: there, ranges are a table (problem_key, first, count), called *keyed*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SHIFT = 32
WIDTH = 1 << SHIFT
"""How many points of the line belong to one problem."""
KEYED = {"problem_key": pl.String, "first": pl.Int64, "count": pl.Int64}
"""Keyed ranges: the columns and their types."""


class Ranges:
    """A table of ranges; a range is ``size`` consecutive sample indices of one problem, from ``first``.

    Attributes:
        starts: each range's first point on the line.
        sizes: how many points it has; at least 1 where nothing else is said.
    """

    __slots__ = ("sizes", "starts")

    def __init__(self, starts: Ints, sizes: NDArray[np.int32]) -> None:
        self.starts = starts
        self.sizes = sizes

    @staticmethod
    def of(numbers: Any, firsts: Any, sizes: Any) -> Ranges:
        """Make a table of columns (or single values, for all rows the same)."""
        starts = np.atleast_1d(np.asarray(numbers, dtype=np.int64) << SHIFT)
        starts += np.asarray(firsts, dtype=np.int64)
        return Ranges(starts, np.broadcast_to(np.asarray(sizes, dtype=np.int32), starts.shape))

    @staticmethod
    def none() -> Ranges:
        return Ranges(np.empty(0, np.int64), np.empty(0, np.int32))

    @staticmethod
    def joined(tables: Iterable[Ranges]) -> Ranges:
        """Return several tables as one, in order."""
        found = [table for table in tables if len(table)]
        if len(found) == 1:
            return found[0]
        if not found:
            return Ranges.none()
        return Ranges(np.concatenate([one.starts for one in found]), np.concatenate([one.sizes for one in found]))

    @property
    def numbers(self) -> Ints:
        """The problem of each range."""
        return self.starts >> SHIFT

    @property
    def firsts(self) -> Ints:
        return self.starts & (WIDTH - 1)

    @property
    def ends(self) -> Ints:
        """The point behind each range."""
        return self.starts + self.sizes

    @property
    def total(self) -> int:
        """How many samples they are together."""
        return int(self.sizes.sum(dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self.starts)

    def __bool__(self) -> bool:
        return len(self.starts) > 0

    def __getitem__(self, which: Any) -> Ranges:
        """Return some of the ranges: a slice, a mask or positions."""
        return Ranges(self.starts[which], self.sizes[which])

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (number, first, size)."""
        return zip(self.numbers.tolist(), self.firsts.tolist(), self.sizes.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ranges)
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.sizes, other.sizes)
        )

    def __repr__(self) -> str:
        return f"Ranges({list(self)[:5]}{'...' if len(self) > 5 else ''})"

    def times(self, rows: int) -> Ranges:
        """Return the samples that draws have, where each draw gives ``rows`` of them."""
        return self if rows == 1 else Ranges.of(self.numbers, self.firsts * rows, self.sizes * rows)

    def over(self, rows: int) -> Ranges:
        """Return the draws that samples are of, where each draw gives ``rows`` of them."""
        if rows == 1:
            return self
        firsts = self.firsts // rows
        return Ranges.of(self.numbers, firsts, -((self.firsts + self.sizes) // -rows) - firsts)

    def sorted(self) -> Ranges:
        """Return them in the order of problems and indices."""
        if bool((self.starts[1:] >= self.starts[:-1]).all()):
            return self
        return self[np.argsort(self.starts, kind="stable")]

    def merged(self) -> Ranges:
        """Return the same points as sorted, disjoint ranges that don't touch."""
        if not len(self) or bool((self.starts[1:] > self.ends[:-1]).all() and (self.sizes > 0).all()):
            return self  # the usual case, and nothing is copied
        table = self[self.sizes > 0].sorted()
        if len(table) < 2:
            return table
        reach = np.maximum.accumulate(table.ends)
        opens = np.flatnonzero(np.concatenate([[True], table.starts[1:] > reach[:-1]]))
        starts = table.starts[opens]
        ends = reach[np.concatenate([opens[1:], [len(reach)]]) - 1]
        return Ranges(starts, (ends - starts).astype(np.int32))

    def cut(self, samples: int) -> tuple[Ranges, Ranges]:
        """Return the first so many samples of the table, and the rest of it."""
        if samples <= 0:
            return Ranges.none(), self
        through = np.cumsum(self.sizes, dtype=np.int64)
        at = int(np.searchsorted(through, samples))
        if at >= len(self) or (at == len(self) - 1 and through[at] == samples):
            return self, Ranges.none()
        if through[at] == samples:
            return self[: at + 1], self[at + 1 :]
        kept = samples - (int(through[at - 1]) if at else 0)
        head, tail = Ranges(self.starts[: at + 1], self.sizes[: at + 1].copy()), self[at:]
        head.sizes[-1] = kept
        tail = Ranges(tail.starts.copy(), tail.sizes.copy())
        tail.starts[0] += kept
        tail.sizes[0] -= kept
        return head, tail

    def capped(self, groups: Ints, most: Ints) -> Ranges:
        """Return the first samples of each group, as many as ``most`` says.

        Args:
            groups: of each range; ranges of a group follow each other, and groups are numbered from 0 in order.
        """
        through = np.cumsum(self.sizes, dtype=np.int64)
        before = through - self.sizes
        first = np.searchsorted(groups, groups)
        kept = np.clip(most[groups] - (before - before[first]), 0, self.sizes).astype(np.int32)
        return Ranges(self.starts, kept)[kept > 0]

    def split(self, size: int) -> Ranges:
        """Return the same samples in ranges of at most ``size`` each."""
        if not len(self) or int(self.sizes.max()) <= size:
            return self
        pieces = -(-self.sizes.astype(np.int64) // size)
        row = np.repeat(np.arange(len(self)), pieces)
        offset = _counted(pieces) * size
        return Ranges(self.starts[row] + offset, np.minimum(size, self.sizes[row] - offset).astype(np.int32))

    def groups(self, samples: int) -> Iterator[Ranges]:
        """Yield the ranges, none of them cut, in groups of about so many samples."""
        at = 0
        through = np.cumsum(self.sizes, dtype=np.int64)
        while at < len(self):
            before = int(through[at - 1]) if at else 0
            end = int(np.searchsorted(through, before + samples)) + 1
            yield self[at:end]
            at = end

    def points(self) -> Ints:
        """Return all samples, one by one, as points of the line."""
        return np.repeat(self.starts, self.sizes) + _counted(self.sizes.astype(np.int64))


class RangeSet:
    """A set of samples, kept as sorted disjoint intervals."""

    __slots__ = ("_sizes", "_starts")

    def __init__(self, ranges: Ranges | None = None) -> None:
        table = Ranges.none() if ranges is None else ranges.merged()
        self._starts, self._sizes = table.starts, table.sizes

    @property
    def ranges(self) -> Ranges:
        """The intervals, in order; not to be changed."""
        return Ranges(self._starts, self._sizes)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.ranges.total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self.ranges == other.ranges

    def add(self, ranges: Ranges) -> None:
        """Add samples; those that are there already stay."""
        fresh = ranges.merged()
        if not fresh:
            return
        low, high = self._first_reaching(fresh.starts), np.searchsorted(self._starts, fresh.ends, side="right")
        touched = np.unique(_positions(low, high))
        self._put(touched, Ranges.joined([fresh, self.ranges[touched]]).merged())

    def remove(self, ranges: Ranges) -> None:
        """Take samples out; those that are not there are ignored."""
        gone = ranges.merged()
        if not gone or not len(self._starts):
            return
        low, high = self._within(gone)
        touched = np.unique(_positions(low, high))
        if len(touched):
            self._put(touched, RangeSet(gone).missing(self.ranges[touched]))

    def _put(self, touched: Ints, fresh: Ranges) -> None:
        """Put sorted intervals in the place of those at some positions."""
        starts, sizes = np.delete(self._starts, touched), np.delete(self._sizes, touched)
        at = np.searchsorted(starts, fresh.starts)
        self._starts, self._sizes = np.insert(starts, at, fresh.starts), np.insert(sizes, at, fresh.sizes)

    def present(self, ranges: Ranges) -> Ranges:
        """Return the parts of ``ranges`` that are in the set, in order."""
        if not len(self._starts):
            return Ranges.none()
        low, high = self._within(ranges)
        row, at = np.repeat(np.arange(len(ranges)), high - low), _positions(low, high)
        starts = np.maximum(self._starts[at], ranges.starts[row])
        ends = np.minimum(self._starts[at] + self._sizes[at], ranges.starts[row] + ranges.sizes[row])
        return Ranges(starts, (ends - starts).astype(np.int32))

    def missing(self, ranges: Ranges) -> Ranges:
        """Return the parts of ``ranges`` that are not in the set, in order."""
        if not len(self._starts) and bool((ranges.sizes > 0).all()):
            return ranges
        return self.gaps(ranges)[0]

    def gaps(self, ranges: Ranges) -> tuple[Ranges, Ints]:
        """Return what ``missing`` does, and which of ``ranges`` each part is of."""
        low, high = self._within(ranges)
        gaps = high - low + 1  # before each interval that lies in the range, and behind the last one
        row = np.repeat(np.arange(len(ranges)), gaps)
        at = _counted(gaps) + low[row]
        starts, ends = ranges.starts[row], ranges.starts[row] + ranges.sizes[row]
        after, before = at > low[row], at < high[row]
        left, right = at[after] - 1, at[before]
        starts[after] = np.maximum(starts[after], self._starts[left] + self._sizes[left])
        ends[before] = np.minimum(ends[before], self._starts[right])
        sizes = ends - starts
        real = sizes > 0
        return Ranges(starts[real], sizes[real].astype(np.int32)), row[real]

    def covers(self, ranges: Ranges) -> NDArray[np.bool_]:
        """Return which of ``ranges`` are in the set as a whole."""
        at = np.searchsorted(self._starts, ranges.starts, side="right") - 1
        whole = np.zeros(len(ranges), dtype=np.bool_)
        inside = at >= 0
        held = at[inside]
        whole[inside] = self._starts[held] + self._sizes[held] >= ranges.starts[inside] + ranges.sizes[inside]
        return whole | (ranges.sizes <= 0)

    def of_problems(self, numbers: Ints) -> Ranges:
        """Return what there is of some problems, in their order."""
        low = np.searchsorted(self._starts, np.asarray(numbers, dtype=np.int64) << SHIFT)
        high = np.searchsorted(self._starts, (np.asarray(numbers, dtype=np.int64) + 1) << SHIFT)
        return self.ranges[_positions(low, high)]

    def _first_reaching(self, points: Ints) -> Ints:
        """Return the position of the first interval that reaches each point or lies behind it."""
        at = np.searchsorted(self._starts, points, side="right") - 1
        before = np.maximum(at, 0)
        reaches = (at >= 0) & (self._starts[before] + self._sizes[before] >= points) if len(self._starts) else at >= 0
        return np.where(reaches, at, at + 1)

    def _within(self, ranges: Ranges) -> tuple[Ints, Ints]:
        """Return, for each range, from which position to which the intervals lie that share a point with it."""
        return self._first_reaching(ranges.starts + 1), np.searchsorted(self._starts, ranges.ends)


def _positions(low: Ints, high: Ints) -> Ints:
    """Return low, low + 1, ... high - 1 of each pair, one after the other."""
    counts = high - low
    return np.repeat(low, counts) + _counted(counts)


def _counted(counts: Ints) -> Ints:
    """Return 0, 1, ... count - 1 of each count, one after the other."""
    total = int(counts.sum())
    starts = np.cumsum(counts) - counts
    return np.arange(total, dtype=np.int64) - np.repeat(starts, counts)


def ranges_of(keys: pl.DataFrame, index: str = "sample_index") -> pl.DataFrame:
    """Return the keyed ranges of a table with ``problem_key`` and ``index``, which must be sorted by them."""
    return _runs(keys.lazy(), [], index).collect()


def ranges_by_file(keys: pl.LazyFrame, index: str = "sample_index") -> pl.DataFrame:
    """Return ``file`` and keyed ranges of a scan with ``file`` and rows' keys, which are sorted in each file."""
    return _runs(keys, ["file"], index).collect()


def _runs(keys: pl.LazyFrame, by: list[str], index: str) -> pl.LazyFrame:
    """Collapse consecutive indices: a new run starts where the file, the problem or the sequence of indices breaks.

    Rows of the same index are one.
    """
    columns = [*by, "problem_key"]
    keys = keys.select(*columns, pl.col(index).alias("sample_index"))
    if index != "sample_index":
        keys = keys.unique(maintain_order=True)
    breaks = pl.col("sample_index") != pl.col("sample_index").shift() + 1
    for name in columns:
        breaks = breaks | (pl.col(name) != pl.col(name).shift())
    return (
        keys.with_columns(run=breaks.fill_null(True).cum_sum())
        .group_by("run", maintain_order=True)
        .agg(
            *[pl.col(name).first() for name in columns],
            pl.col("sample_index").first().alias("first"),
            pl.len().cast(pl.Int64).alias("count"),
        )
        .drop("run")
    )


FEW = 4096
"""So many problems may be looked for by their keys alone."""


def restrict(rows: pl.LazyFrame, ranges: pl.DataFrame, by: str = "sample_index") -> pl.LazyFrame:
    """Keep the rows whose problem and index (the column ``by``) lie in ``ranges`` (keyed, disjoint)."""
    wanted = ranges.lazy()
    index = pl.col(by)
    alike = ranges.select("first", "count").n_unique() == 1
    if alike and len(ranges) <= FEW and not ranges["problem_key"].is_duplicated().any():
        first, count = ranges.select("first", "count").row(0)
        mine = pl.col("problem_key").is_in(ranges["problem_key"].implode())
        return rows.filter(mine, index.is_between(first, first + count, closed="left"))  # a join copies all columns
    return (
        rows.join(wanted, on="problem_key", how="inner")
        .filter(index >= pl.col("first"), index < pl.col("first") + pl.col("count"))
        .drop("first", "count")
    )
