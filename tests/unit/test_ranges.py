"""Index ranges against a plain set of keys."""

from __future__ import annotations

import itertools

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.ranges import Range, RangeMap, as_table, ranges_by_file, ranges_of, restrict

RANGES = st.lists(st.builds(Range, st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 10)), max_size=12)


def members(ranges: list[Range]) -> set[tuple[str, int]]:
    return {(key, index) for key, first, count in ranges for index in range(first, first + count)}


@given(RANGES, RANGES, RANGES)
def test_a_range_map_is_a_set_of_keys(added: list[Range], removed: list[Range], asked: list[Range]) -> None:
    held = RangeMap(added)
    expected = members(added)
    for item in removed:
        held.remove(item)
        expected -= members([item])
    assert members(list(held)) == expected
    assert len(held) == len(expected)
    for item in asked:
        assert members(held.missing(item)) == members([item]) - expected
        assert members(held.present(item)) == members([item]) & expected
        assert held.covers(item) == (members([item]) <= expected)


@given(RANGES)
def test_intervals_are_merged(added: list[Range]) -> None:
    per_key: dict[str, list[Range]] = {}
    for item in RangeMap(added):
        per_key.setdefault(item.problem_key, []).append(item)
    for intervals in per_key.values():
        for one, other in itertools.pairwise(intervals):
            assert one.first + one.size < other.first


@given(st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60))
def test_ranges_of_a_table_are_its_keys(wanted: set[tuple[str, int]]) -> None:
    schema = {"problem_key": pl.String, "sample_index": pl.Int64}
    table = pl.DataFrame(sorted(wanted), schema=schema, orient="row")
    assert members(ranges_of(table)) == wanted
    by_file = ranges_by_file(table.lazy().with_columns(file=pl.lit("one")))
    assert members(by_file.get("one", [])) == wanted


@given(RANGES, RANGES)
def test_restrict_keeps_exactly_the_keys_of_the_view(stored: list[Range], view: list[Range]) -> None:
    schema = {"problem_key": pl.String, "sample_index": pl.Int64}
    table = pl.DataFrame(sorted(members(stored)), schema=schema, orient="row")
    disjoint = list(RangeMap(view))
    rows = restrict(table.lazy(), as_table(disjoint)).collect().rows()
    assert sorted(rows) == sorted(members(stored) & members(view))
