"""Ranges as columns, and numbers of problems, against plain sets and mappings."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.storage.files import FileTable
from cluster.storage.numbering import Numbering, as_bytes, as_text
from cluster.storage.queue import RangeQueue
from cluster.storage.ranges import KEYED, Ranges, RangeSet, ranges_by_file, ranges_of, restrict

some = settings(max_examples=50, deadline=None)

ROWS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 70_000]), st.integers(0, 30), st.integers(0, 10)), max_size=14)
Row = tuple[int, int, int]


def table(rows: list[Row]) -> Ranges:
    return (
        Ranges.of(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))) if rows else Ranges.none()
    )


def members(rows: list[Row] | Ranges) -> set[tuple[int, int]]:
    return {(number, index) for number, first, size in rows for index in range(first, first + size)}


@some
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


@some
@given(ROWS)
def test_intervals_are_sorted_disjoint_and_do_not_touch(added: list[Row]) -> None:
    found = RangeSet()
    for row in added:
        found.add(table([row]))
    starts, ends = found.ranges.starts, found.ranges.ends
    assert (starts[1:] > ends[:-1]).all() and (ends > starts).all()
    assert found.ranges == table(added).merged()


@some
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


@some
@given(ROWS, st.lists(st.sampled_from([0, 1, 2, 3, 70_000]), max_size=5))
def test_what_there_is_of_some_problems(held: list[Row], numbers: list[int]) -> None:
    found = RangeSet(table(held)).of_problems(np.array(numbers, dtype=np.int64))
    expected = [i for number in numbers for i in sorted(i for n, i in members(held) if n == number)]
    assert [index for _, first, size in found for index in range(first, first + size)] == expected


@some
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


@some
@given(st.lists(ROWS, max_size=4), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=8))
def test_a_queue_gives_everything_once_and_in_order(tables: list[list[Row]], takes: list[tuple[bool, int]]) -> None:
    queue, expected = RangeQueue(), list[tuple[int, int]]()
    for rows in tables:
        wanted = table([row for row in rows if row[2]])
        queue.append(wanted)
        expected += [divmod(point, 1 << 32) for point in wanted.points().tolist()]
    got = list[tuple[int, int]]()
    for by_rows, count in takes:
        taken = queue.take_rows(count) if by_rows else queue.take(count)
        assert (len(taken) if by_rows else taken.total) <= count
        got += [divmod(point, 1 << 32) for point in taken.points().tolist()]
    assert got + [divmod(point, 1 << 32) for point in queue.ranges.points().tolist()] == expected


@some
@given(st.lists(ROWS, max_size=4), ROWS, st.sets(st.integers(0, 3)))
def test_files_are_found_by_what_is_in_them(files: list[list[Row]], asked: list[Row], gone: set[int]) -> None:
    """Also where two of them hold the same samples: a damaged store has such."""
    found, model = FileTable(), {f"f{number}": rows for number, rows in enumerate(files)}
    found.add({name: table([row for row in rows if row[2]]) for name, rows in model.items()})
    names = {f"f{number}" for number in gone} & model.keys()
    lost = found.remove(names)
    assert members(lost) == set().union(*(members(model.pop(name)) for name in names))
    assert list(found) == list(model)
    for name, rows in model.items():
        assert members(found.of(name)) == members(rows)
    assert found.holding(table(asked)) == [name for name, rows in model.items() if members(rows) & members(asked)]


@some
@given(st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60))
def test_ranges_of_a_table_are_its_keys(wanted: set[tuple[str, int]]) -> None:
    schema = {"problem_key": pl.String, "sample_index": pl.Int64}
    rows = pl.DataFrame(sorted(wanted), schema=schema, orient="row")
    found = ranges_of(rows)
    assert found.schema == KEYED
    assert {(key, i) for key, first, count in found.iter_rows() for i in range(first, first + count)} == wanted
    assert ranges_by_file(rows.lazy().with_columns(file=pl.lit("one"))).drop("file").equals(found)
    numbering = Numbering()
    assert numbering.keyed(numbering.ranges(found)).equals(found)


DIGEST = st.text(alphabet="0af", min_size=32, max_size=33)
DIGESTS = st.sets(DIGEST.map(lambda key: key[:32]), max_size=9)
KEYS = st.text(alphabet="aé0z😀", max_size=6) | DIGEST | st.just("0" * 32)


@some
@given(
    st.sets(KEYS, max_size=9) | st.sets(DIGEST.map(lambda key: key[:32]), max_size=9),
    st.lists(st.lists(KEYS, max_size=8), max_size=4),
)
def test_a_key_has_one_number_and_a_number_one_key(problems: set[str], batches: list[list[str]]) -> None:
    base = pl.Series(sorted(problems, key=str.encode), dtype=pl.String)
    assert as_text(as_bytes(base)).to_list() == base.to_list()
    numbering, known = Numbering([base[:2], base[2:]]), dict(zip(base, range(len(base)), strict=True))
    assert numbering.problems == len(base)
    for batch in batches:
        keys = pl.Series(batch, dtype=pl.String)
        assert numbering.find(keys).tolist() == [known.get(key, -1) for key in batch]
        numbers = numbering.number(keys).tolist()
        for key, number in zip(batch, numbers, strict=True):
            assert known.setdefault(key, number) == number
        assert numbering.keys(np.array(numbers, dtype=np.int64)).to_list() == batch
    assert sorted(known.values()) == list(range(len(known))) and len(numbering) == len(known)


def test_keys_that_begin_alike_are_found_too() -> None:
    keys = pl.Series([f"problem-{number:06d}" for number in range(500)])
    numbering = Numbering([keys])
    assert numbering.find(keys.reverse()).tolist() == list(range(500))[::-1]
    assert numbering.find(pl.Series(["problem-", "problem-000500", "z", "problem-0000010"])).tolist() == [-1] * 4


@some
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), max_size=30), ROWS)
def test_restrict_keeps_exactly_the_keys_of_the_view(stored: list[tuple[str, int]], view: list[Row]) -> None:
    numbering = Numbering([pl.Series(["a", "b"])])
    wanted = RangeSet(table([row for row in view if row[0] < 2]))
    rows = pl.DataFrame(sorted(set(stored)), schema={"problem_key": pl.String, "sample_index": pl.Int64}, orient="row")
    kept = restrict(rows.lazy(), numbering.keyed(wanted.ranges)).collect().rows()
    assert sorted(kept) == sorted({(k, i) for k, i in stored if ("ab".index(k), i) in members(wanted.ranges)})
