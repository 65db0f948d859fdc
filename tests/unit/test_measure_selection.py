"""Accuracy of the vote against n."""

from __future__ import annotations

import tracemalloc
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.measure.selection import MeasureSelection, Orders, Votes, subset_accuracy
from operators.select.majority import MajorityVote
from schemas.contract import conform, validate
from schemas.errors import BadInput
from schemas.measures import SelectionAccuracy

RIGHT = "7"
ANSWERS = st.sampled_from(["7", "7", "1", "2", None])


def verdicts(problems: list[list[str | None]], known: list[bool] | None = None) -> pl.DataFrame:
    rows = [
        (f"p{number}", index, answer, (answer == RIGHT) if known is None or known[number] else None)
        for number, answers in enumerate(problems)
        for index, answer in enumerate(answers)
    ]
    table = pl.DataFrame(rows, schema=["problem_id", "sample_index", "predicted_answer", "is_correct"], orient="row")
    table = table.cast({"predicted_answer": pl.String, "is_correct": pl.Boolean})
    return table.with_columns(
        status=pl.when(pl.col("predicted_answer").is_null()).then(pl.lit("unparseable")).otherwise(pl.lit("ok"))
    )


def curve(table: pl.DataFrame, **fields: int) -> pl.DataFrame:
    operator = MeasureSelection(**fields)
    lazy = conform(table, operator.inputs["verdicts"], "test").lazy()
    return validate(operator.run(verdicts=lazy), SelectionAccuracy, "test")


def majority_accuracy(table: pl.DataFrame) -> float:
    answers = MajorityVote().run(verdicts=conform(table, MajorityVote.inputs["verdicts"], "test"))
    return answers["is_correct"].cast(pl.Float64).mean()


def brute_force(answers: list[str | None], size: int) -> float:
    """The mean over all subsets, ties as the share of the tied answers that is right."""
    values = []
    for subset in combinations(answers, size):
        tally = {answer: subset.count(answer) for answer in subset if answer is not None}
        tied = [answer for answer, count in tally.items() if count == max(tally.values())]
        values.append(tied.count(RIGHT) / len(tied) if tied else 0.0)
    return float(np.mean(values))


@given(st.lists(st.lists(ANSWERS, min_size=6, max_size=6), min_size=1, max_size=5))
@settings(deadline=None, max_examples=50)
def test_at_n_it_is_exactly_the_majority_vote(problems: list[list[str | None]]) -> None:
    table = verdicts(problems)
    measured = curve(table, subsets=10, bootstrap=100)
    assert measured["n"].to_list() == [1, 2, 4, 6]
    assert abs(measured["accuracy"][-1] - majority_accuracy(table)) < 1e-12
    assert (measured["low"] <= measured["accuracy"]).all()
    assert (measured["accuracy"] <= measured["high"]).all()


def test_agrees_with_all_subsets_by_brute_force() -> None:
    problems = [["7", "1", "7", "2", None, "1", "7", "9"], ["7", "1", "1", None, "2", "2", "7", "7"]]
    measured = curve(verdicts(problems), subsets=4000)
    for size, accuracy in zip(measured["n"][:-1], measured["accuracy"][:-1], strict=True):
        assert abs(accuracy - np.mean([brute_force(answers, size) for answers in problems])) < 0.02


def test_accuracy_at_one_is_the_pass_rate() -> None:
    measured = curve(verdicts([["7"] * 3 + ["1"] * 5] * 4), subsets=4000)
    assert abs(measured["accuracy"][0] - 3 / 8) < 0.02


def test_problems_without_a_known_answer_are_left_out() -> None:
    table = verdicts([["7", "7"], ["7", "1"], ["3", "3"]], known=[True, True, False])
    assert curve(table)["accuracy"][-1] == 1.0


def test_a_problem_that_was_never_answered_is_wrong() -> None:
    assert curve(verdicts([["7", "7"], [None, None]]))["accuracy"].to_list() == [0.5, 0.5]
    assert curve(verdicts([[None], [None]]))["accuracy"].to_list() == [0.0]


def test_unequal_n_uses_the_first_samples_of_each() -> None:
    table = verdicts([["7", "7", "1", "1", "1"], ["7", "7"]])
    measured = curve(table)
    assert measured["n"].to_list() == [1, 2]
    assert measured["accuracy"].to_list() == [1.0, 1.0]


def test_gaps_in_the_indices_and_row_order_do_not_matter() -> None:
    table = verdicts([["7", "1", "7", None], ["1", "7", "1", "7"]])
    holes = table.with_columns(sample_index=pl.col("sample_index") * 3 + 5).sample(fraction=1.0, shuffle=True, seed=1)
    assert curve(holes).equals(curve(table))


def test_errors_are_no_samples() -> None:
    table = verdicts([["7", "1", "1"], ["7", "1", "1"]])
    failed = table.with_columns(status=pl.when(pl.col("sample_index") == 1).then(pl.lit("error")).otherwise("status"))
    measured = curve(failed)
    assert measured["n"].to_list() == [1, 2]
    assert measured["accuracy"][-1] == 1.0  # one vote each: the first seen wins


def test_nothing_known_is_refused() -> None:
    with pytest.raises(BadInput, match=r"measure\.selection"):
        curve(verdicts([["7", "1"]], known=[False]))


def test_the_band_narrows_with_more_problems() -> None:
    rng = np.random.default_rng(0)
    draw = [[str(value) for value in rng.choice([7, 1, 2], p=[0.45, 0.3, 0.25], size=16)] for _ in range(300)]
    few, many = curve(verdicts(draw[:20])), curve(verdicts(draw))
    assert ((many["high"] - many["low"]) < (few["high"] - few["low"])).all()


def test_the_interval_doesn_t_end_where_all_that_was_seen_is_alike() -> None:
    wrong, right = (curve(verdicts([[answer] * 4] * 8)) for answer in ("1", RIGHT))
    assert wrong["low"].to_list() == [0.0] * 3 and wrong["high"].to_list() == pytest.approx([0.369] * 3, abs=0.03)
    assert right["high"].to_list() == [1.0] * 3 and right["low"].to_list() == pytest.approx([0.631] * 3, abs=0.03)


def test_the_interval_holds_the_accuracy_on_problems_like_these() -> None:
    held = np.zeros(3)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rates = rng.beta(0.5, 0.7, 12)
        draw = [[RIGHT if right else "1" for right in rng.random(5) < p] for p in rates]
        table = curve(verdicts(draw), subsets=10, bootstrap=200)
        a, b = 0.5, 0.7
        moments = np.cumprod([(a + i) / (a + b + i) for i in range(5)])
        of_five = 10 * moments[2] - 15 * moments[3] + 6 * moments[4]  # P(three or more of five are right)
        truth = np.array([moments[0], moments[0], of_five])  # with two, a tie is half right
        some = table.filter(pl.col("n").is_in([1, 2, 5]))
        held += (some["low"].to_numpy() <= truth) & (truth <= some["high"].to_numpy())
    assert (held / 60).min() >= 0.93


def test_each_sample_is_first_as_often_as_any_other() -> None:
    table = verdicts([["7", "1", "2", "1"], ["1", "7", "7", "7"]])
    assert curve(table, subsets=100)["accuracy"][0] == pytest.approx(0.5, abs=1e-12)


def test_orders_are_the_same_each_time_and_take_no_memory() -> None:
    orders = Orders(100_000, 100, 0)
    for total, count in ((1, 10), (3, 10), (50, 100), (200, 7)):
        few = Orders(total, count, 1)
        once, again = list(few), list(few)
        assert len(once) == len(few) == count
        assert all((np.sort(order) == np.arange(total)).all() for order in once)
        assert all((one == other).all() for one, other in zip(once, again, strict=True))
        assert np.ptp(np.bincount([int(order[0]) for order in once], minlength=total)) <= 1
    data = Votes(np.arange(100_000, dtype=np.int32)[:, None] % 2, np.array([1.0, 0.0]), np.array([0]))
    tracemalloc.start()
    try:
        right = subset_accuracy(data, [1, 1000, 100_000], orders)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6  # all of them at once are 80 MB
    assert right[2].tolist() == [[1.0]]  # a tie: the first seen wins
