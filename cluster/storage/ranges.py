"""Index ranges per problem: all that the driver remembers of samples.

A ``RangeMap`` holds, for each problem, disjoint sorted half-open intervals of sample indices. Its size grows with
problems and gaps, never with samples.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import polars as pl


class Range(NamedTuple):
    """``size`` consecutive sample indices of one problem, from ``first``."""

    problem_key: str
    first: int
    size: int


class RangeMap:
    """A set of (problem_key, sample_index) keys, kept as intervals."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._intervals: dict[str, list[tuple[int, int]]] = {}
        for item in ranges:
            self.add(item)

    def __iter__(self) -> Iterator[Range]:
        for key, intervals in self._intervals.items():
            for first, end in intervals:
                yield Range(key, first, end - first)

    def __len__(self) -> int:
        """Return the number of keys."""
        return sum(end - first for intervals in self._intervals.values() for first, end in intervals)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeMap) and self._intervals == other._intervals

    def add(self, item: Range) -> None:
        """Add the keys of ``item``; those that are there already stay."""
        if item.size <= 0:
            return
        first, end = item.first, item.first + item.size
        intervals = self._intervals.setdefault(item.problem_key, [])
        left = bisect_left(intervals, first, key=lambda interval: interval[1])
        right = bisect_right(intervals, end, key=lambda interval: interval[0])
        if left < right:
            first, end = min(first, intervals[left][0]), max(end, intervals[right - 1][1])
        intervals[left:right] = [(first, end)]

    def remove(self, item: Range) -> None:
        """Take the keys of ``item`` out; those that are not there are ignored."""
        first, end = item.first, item.first + item.size
        kept: list[tuple[int, int]] = []
        for low, high in self._intervals.get(item.problem_key, []):
            kept += [piece for piece in ((low, min(high, first)), (max(low, end), high)) if piece[0] < piece[1]]
        if kept:
            self._intervals[item.problem_key] = kept
        else:
            self._intervals.pop(item.problem_key, None)

    def missing(self, item: Range) -> list[Range]:
        """Return the parts of ``item`` that are not in the map, in order."""
        at, end = item.first, item.first + item.size
        gaps: list[Range] = []
        for low, high in self._intervals.get(item.problem_key, []):
            if high <= at:
                continue
            if low >= end:
                break
            if low > at:
                gaps.append(Range(item.problem_key, at, low - at))
            at = high
        if at < end:
            gaps.append(Range(item.problem_key, at, end - at))
        return gaps

    def present(self, item: Range) -> list[Range]:
        """Return the parts of ``item`` that are in the map, in order."""
        end = item.first + item.size
        found: list[Range] = []
        for low, high in self._intervals.get(item.problem_key, []):
            first, last = max(low, item.first), min(high, end)
            if first < last:
                found.append(Range(item.problem_key, first, last - first))
        return found

    def covers(self, item: Range) -> bool:
        return not self.missing(item)


def ranges_of(keys: pl.DataFrame) -> list[Range]:
    """Return the ranges of a table with ``problem_key`` and ``sample_index``, which must be sorted by them."""
    return [Range(*row) for row in _runs(keys.lazy(), []).collect().iter_rows()]


def ranges_by_file(keys: pl.LazyFrame) -> dict[str, list[Range]]:
    """Return file -> ranges of a scan with ``file``, ``problem_key``, ``sample_index``, sorted within each file."""
    found: dict[str, list[Range]] = {}
    for file, key, first, count in _runs(keys, ["file"]).collect().iter_rows():
        found.setdefault(file, []).append(Range(key, first, count))
    return found


def _runs(keys: pl.LazyFrame, by: list[str]) -> pl.LazyFrame:
    """Collapse consecutive indices: a new run starts where the file, the problem or the sequence of indices breaks."""
    columns = [*by, "problem_key"]
    breaks = pl.col("sample_index") != pl.col("sample_index").shift() + 1
    for name in columns:
        breaks = breaks | (pl.col(name) != pl.col(name).shift())
    return (
        keys.select(*columns, "sample_index")
        .with_columns(run=breaks.fill_null(True).cum_sum())
        .group_by("run", maintain_order=True)
        .agg(*[pl.col(name).first() for name in columns], pl.col("sample_index").first(), pl.len().alias("count"))
        .drop("run")
    )


def as_table(ranges: Iterable[Range]) -> pl.DataFrame:
    """Return ranges as a table (problem_key, first, count)."""
    return pl.DataFrame(
        list(ranges), schema={"problem_key": pl.String, "first": pl.Int64, "count": pl.Int64}, orient="row"
    )


def restrict(rows: pl.LazyFrame, ranges: pl.DataFrame) -> pl.LazyFrame:
    """Keep the rows whose (problem_key, sample_index) lies in ``ranges`` (disjoint, as ``as_table`` gives them)."""
    wanted = ranges.lazy()
    index = pl.col("sample_index")
    return (
        rows.join(wanted, on="problem_key", how="inner")
        .filter(index >= pl.col("first"), index < pl.col("first") + pl.col("count"))
        .drop("first", "count")
    )
