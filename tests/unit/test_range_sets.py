"""Ranges as columns against plain sets of samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.ranges import Ranges, RangeSet

ROWS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 70_000]), st.integers(0, 30), st.integers(0, 10)), max_size=14)
Row = tuple[int, int, int]


def table(rows: list[Row]) -> Ranges:
    return (
        Ranges.of(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))) if rows else Ranges.none()
    )


def members(rows: list[Row] | Ranges) -> set[tuple[int, int]]:
    return {(number, index) for number, first, size in rows for index in range(first, first + size)}


@given(ROWS, ROWS, ROWS, ROWS)
def test_a_range_set_is_a_set(added: list[Row], removed: list[Row], again: list[Row], asked: list[Row]) -> None:
    found, expected = RangeSet(table(added[:3])), members(added)
    for rows in (added[3:8], added[8:]):
        found.add(table(rows))
    found.remove(table(removed))
    found.add(table(again))
    expected = (expected - members(removed)) | members(again)
    assert members(found.ranges) == expected
    assert len(found) == len(expected)
    present, missing = found.present(table(asked)), found.missing(table(asked))
    assert members(present) == members(asked) & expected
    assert members(missing) == members(asked) - expected
    assert present.total + missing.total == sum(size for _, _, size in asked)
    assert found.covers(table(asked)).tolist() == [members([row]) <= expected for row in asked]
    assert found == RangeSet(found.ranges)


@given(ROWS)
def test_intervals_are_sorted_disjoint_and_do_not_touch(added: list[Row]) -> None:
    found = RangeSet()
    for row in added:
        found.add(table([row]))
    starts, ends = found.ranges.starts, found.ranges.ends
    assert (starts[1:] > ends[:-1]).all() and (ends > starts).all()
    assert found.ranges == table(added).merged()


@given(ROWS, ROWS)
def test_parts_come_in_the_order_that_was_asked_for(held: list[Row], asked: list[Row]) -> None:
    found = RangeSet(table(held))
    for ours, theirs in (
        (found.present, members(held).__contains__),
        (found.missing, lambda k: k not in members(held)),
    ):
        samples = [(number, index) for number, first, size in asked for index in range(first, first + size)]
        got = [(number, index) for number, first, size in ours(table(asked)) for index in range(first, first + size)]
        assert got == [sample for sample in samples if theirs(sample)]


@given(ROWS, st.lists(st.sampled_from([0, 1, 2, 3, 70_000]), max_size=5))
def test_what_there_is_of_some_problems(held: list[Row], numbers: list[int]) -> None:
    found = RangeSet(table(held)).of_problems(np.array(numbers, dtype=np.int64))
    expected = [sorted(i for n, i in members(held) if n == number) for number in numbers]
    assert [index for _, first, size in found for index in range(first, first + size)] == sum(expected, [])


@given(ROWS, st.integers(0, 40), st.integers(1, 7))
def test_a_table_is_cut_split_and_grouped_without_loss(rows: list[Row], samples: int, size: int) -> None:
    whole = table([row for row in rows if row[2]])
    order = [(number, index) for number, first, count in whole for index in range(first, first + count)]
    head, tail = whole.cut(samples)
    assert head.total == min(samples, whole.total)
    for pieces in ([head, tail], [whole.split(size)], list(whole.groups(size))):
        joined = Ranges.joined(pieces)
        assert [(n, i) for n, first, count in joined for i in range(first, first + count)] == order
    assert (whole.split(size).sizes <= size).all()
    assert [(point >> 32, point & 0xFFFFFFFF) for point in whole.points().tolist()] == order
    assert whole == table([row for row in rows if row[2]])  # nothing was changed in place
