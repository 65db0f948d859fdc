"""Operators that are computed piece by piece: the cut doesn't show in the result."""

from __future__ import annotations

from typing import ClassVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.measure.counts import Counts
from operators.measure.pass_at_k import PassAtK
from operators.measure.selection import MeasureSelection
from operators.piecewise import PiecewiseOperator
from schemas import columns
from schemas.contract import Contract, conform, polars_schema
from schemas.datasets import Answer, Verdict
from schemas.errors import BadInput

MEASURES = [PassAtK(bootstrap=100), MeasureSelection(subsets=10, bootstrap=100)]
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(["7", "7", "1", "2", None]),
        st.sampled_from(["ok", "ok", "ok", "timeout", "error"]),
        st.sampled_from([("a",), ("b",), ("a", "b")]),
    ),
    max_size=8,
)
PROBLEMS = st.lists(st.tuples(SAMPLES, st.booleans()), min_size=1, max_size=6)


class Seen(Contract):
    """What one call of ``Record.partial`` got."""

    verdicts = columns.Int64(nullable=True)
    answers = columns.Int64(nullable=True)
    counts = columns.Int64(nullable=True)
    keys = columns.List(columns.String(nullable=False), nullable=False)


class Record(PiecewiseOperator):
    """Write down how the inputs were cut."""

    version: ClassVar[int] = 1
    piece_rows: ClassVar[int] = 4
    inputs = {
        "verdicts": Verdict.select("problem_key"),
        "answers": Answer.select("problem_key"),
        "counts": Counts.select("n"),
    }
    optional = frozenset(inputs)
    output = Seen

    def partial(self, **tables: pl.DataFrame | None) -> pl.DataFrame:
        keyed = [table["problem_key"] for name, table in tables.items() if table is not None and name != "counts"]
        keys = sorted({key for column in keyed for key in column})
        sizes = {name: None if table is None else len(table) for name, table in tables.items()}
        return pl.DataFrame([{**sizes, "keys": keys}], schema=polars_schema(Seen))

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        return partials


def verdicts(problems: list[tuple[list[tuple[str | None, str, tuple[str, ...]]], bool]]) -> pl.DataFrame:
    rows = [
        (f"p{number}", index, verifier, answer, (answer == "7") if known else None, status)
        for number, (samples, known) in enumerate(problems)
        for index, (answer, status, verifiers) in enumerate(samples)
        for verifier in verifiers
    ]
    schema = {
        "problem_key": pl.String,
        "sample_index": pl.Int64,
        "verifier": pl.String,
        "predicted_answer": pl.String,
        "is_correct": pl.Boolean,
        "status": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def outcome(operator: PiecewiseOperator, partials: list[pl.DataFrame]) -> pl.DataFrame | str:
    try:
        return operator.merge(pl.concat(partials))
    except BadInput as error:
        return str(error)


def same(left: pl.DataFrame | str, right: pl.DataFrame | str) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and left == right
    return left.schema == right.schema and left.equals(right)


@pytest.mark.parametrize("operator", MEASURES, ids=lambda operator: operator.public_name())
@given(problems=PROBLEMS, data=st.data())
@settings(deadline=None, max_examples=50)
def test_cuts_and_order_do_not_show(
    operator: PiecewiseOperator,
    problems: list[tuple[list[tuple[str | None, str, tuple[str, ...]]], bool]],
    data: st.DataObject,
) -> None:
    table = conform(verdicts(problems), operator.inputs["verdicts"], "test")
    pieces = data.draw(st.lists(st.integers(0, 3), min_size=len(problems), max_size=len(problems)), label="pieces")
    order = data.draw(st.permutations(range(4)), label="order")
    piece_of = pl.DataFrame({"problem_key": [f"p{number}" for number in range(len(problems))], "piece": pieces})
    cut = table.join(piece_of, on="problem_key")
    partials = [operator.partial(verdicts=cut.filter(pl.col("piece") == piece).drop("piece")) for piece in order]
    assert same(outcome(operator, partials), outcome(operator, [operator.partial(verdicts=table)]))


@pytest.mark.parametrize("operator", MEASURES, ids=lambda operator: operator.public_name())
def test_run_gives_the_same_in_many_pieces(operator: PiecewiseOperator) -> None:
    samples = [("7", "ok", ("a",)), ("1", "ok", ("a",)), (None, "timeout", ("a",)), ("7", "ok", ("a",))]
    table = conform(verdicts([(samples, True)] * 9), operator.inputs["verdicts"], "test")
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=1).lazy()

    class Small(type(operator)):  # type: ignore[misc]
        piece_rows: ClassVar[int] = 5

    small = Small(**operator.model_dump())
    assert small.run(verdicts=shuffled).equals(operator.run(verdicts=table.lazy()))


def test_pieces_are_whole_problems_of_all_inputs_and_the_rest_comes_once() -> None:
    keys = pl.LazyFrame({"problem_key": ["c", "a", "b", "a", "b", "a", "c", "d"]})
    others = pl.LazyFrame({"problem_key": ["e", "b"]})
    seen = Record().run(verdicts=keys, answers=others, counts=pl.LazyFrame({"n": [1, 2]}))
    assert seen.rows() == [
        (None, None, 2, []),
        (5, 1, None, ["a", "b"]),  # begin at rows 0 and 3 of the rows in order of the key
        (2, 0, None, ["c"]),  # at 6
        (1, 1, None, ["d", "e"]),  # at 8 and 9
    ]


def test_little_is_one_piece_and_nothing_too() -> None:
    few = pl.LazyFrame({"problem_key": ["a", "b"]})
    assert Record().run(verdicts=few).rows() == [(2, None, None, ["a", "b"])]
    assert Record().run(verdicts=few.head(0), answers=None).rows() == [(0, None, None, [])]
    assert Record().run().rows() == [(None, None, None, [])]
    assert Record().whole_inputs() == {"counts"}


def test_bare_counts_win_over_verdicts_whatever_came_first() -> None:
    operator = PassAtK(bootstrap=100)
    counts = conform(pl.DataFrame({"problem_id": ["b", "a"], "n": [4, 4], "c": [1, 3]}), Counts.select(), "test")
    table = conform(verdicts([([("7", "ok", ("a",))] * 2, True)]), operator.inputs["verdicts"], "test")
    expected = operator.run(counts=counts.lazy())
    assert operator.run(counts=counts.lazy(), verdicts=table.lazy()).equals(expected)
    partials = [operator.partial(verdicts=table), operator.partial(counts=counts)]
    assert operator.merge(pl.concat(partials)).equals(expected)


def test_votes_take_four_bytes_a_sample() -> None:
    operator = MeasureSelection()
    samples = [("7", "ok", ("a",)), ("1", "ok", ("a",)), (None, "timeout", ("a",))] * 1000
    table = conform(verdicts([(samples, True), (samples, False)]), operator.inputs["verdicts"], "test")
    votes = operator.partial(verdicts=table)
    assert votes["problem_key"].to_list() == ["p0"]
    assert votes["correct"].to_list() == [[True, False]]
    assert votes["votes"][0].to_list()[:4] == [0, 1, -1, 0]
    assert votes["votes"][0].dtype == pl.Int32
