"""Majority vote and the answer classes under it."""

from __future__ import annotations

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from operators.select.majority import MajorityVote
from schemas.contract import conform, validate
from schemas.datasets import Answer
from tests.support import answer_classes


def verdicts(*problems: list[str | None], right: str = "7", **columns: list[object]) -> pl.DataFrame:
    """One problem per list of answers; None is unparseable."""
    rows = [
        {
            "problem_id": f"p{number}",
            "sample_index": index,
            "predicted_answer": answer,
            "is_correct": answer == right,
            "status": "ok" if answer is not None else "unparseable",
        }
        for number, answers in enumerate(problems)
        for index, answer in enumerate(answers)
    ]
    schema = {
        "problem_id": pl.String,
        "sample_index": pl.Int64,
        "predicted_answer": pl.String,
        "is_correct": pl.Boolean,
        "status": pl.String,
    }
    return pl.DataFrame(rows, schema=schema).with_columns(pl.Series(k, v) for k, v in columns.items())


def vote(table: pl.DataFrame) -> pl.DataFrame:
    """What ``gristmill op select.majority`` does."""
    operator = MajorityVote()
    return validate(operator.run(verdicts=conform(table, operator.inputs["verdicts"], "test")), Answer, "test")


def one(table: pl.DataFrame) -> dict[str, object]:
    return vote(table).row(0, named=True)


def test_the_most_frequent_answer_wins_with_its_runner_up() -> None:
    answer = one(verdicts(["5", "7", "7", "9", "5", "7"]))
    assert (answer["answer"], answer["confidence"], answer["n_samples"]) == ("7", 0.5, 6)
    assert answer["is_correct"] is True
    assert answer["runner_up"] == "5"
    assert abs(answer["runner_up_confidence"] - 2 / 6) < 1e-12
    assert answer["answer_class"] == 1  # numbered by first sample_index


def test_ties_go_to_the_answer_seen_first_whatever_the_row_order() -> None:
    table = verdicts(["b", "a", "a", "b"])
    assert one(table)["answer"] == "b"
    assert one(table.reverse())["answer"] == "b"


def test_unparseable_samples_count_in_n_and_errors_do_not() -> None:
    table = verdicts(["7", None, None, "7"], status=["ok", "unparseable", "timeout", "error"])
    answer = one(table)
    assert answer["n_samples"] == 3
    assert abs(answer["confidence"] - 1 / 3) < 1e-12


def test_a_problem_without_an_answer_has_a_row_and_is_wrong() -> None:
    answer = one(verdicts([None, None, None]))
    assert answer["answer"] is None
    assert answer["answer_class"] is None
    assert (answer["confidence"], answer["n_samples"], answer["is_correct"]) == (0.0, 3, False)
    unknown = one(verdicts([None], is_correct=[None]))
    assert unknown["is_correct"] is None


def test_only_skipped_samples_give_confidence_zero() -> None:
    answer = one(verdicts(["7", "7"], status=["skipped", "error"]))
    assert (answer["answer"], answer["confidence"], answer["n_samples"]) == (None, 0.0, 0)


def test_answer_keys_join_spellings_and_the_first_spelling_is_shown() -> None:
    answer = one(verdicts(["0.5", "3", "1/2"], answer_key=["1/2", "3", "1/2"]))
    assert (answer["answer"], answer["runner_up"]) == ("0.5", "3")


def test_the_verifier_whose_name_sorts_first_decides() -> None:
    both = pl.concat(
        [
            verdicts(["7", "7", "1"]).with_columns(verifier=pl.lit("b")),
            verdicts(["1", "1", "7"]).with_columns(verifier=pl.lit("a")),
        ]
    )
    answer = one(both)
    assert (answer["answer"], answer["n_samples"]) == ("1", 3)


def test_no_rows_give_no_rows() -> None:
    assert vote(verdicts()).is_empty()


def test_classes_of_answers() -> None:
    table = verdicts(["b", "7", None, "b"], ["7"])
    operator = MajorityVote()
    classes = answer_classes(conform(table, operator.inputs["verdicts"], "test"))
    assert classes.select("problem_key", "answer_key", "answer_class", "is_correct").sort(
        "problem_key", "answer_key"
    ).rows() == [
        ("p0", "7", 1, True),
        ("p0", "b", 0, False),
        ("p1", "7", 0, True),
    ]


def test_classes_from_elsewhere_are_used() -> None:
    table = verdicts(["a", "b", "c", "d"], answer_class=["x", "y", "y", None], answer_key=["a", "b", "c", "d"])
    table = table.with_columns(problem_key="problem_id")
    assert answer_classes(table)["answer_class"].to_list() == [0, 1, 1]
    numbered = table.with_columns(answer_class=pl.Series([4, 9, 9, -1]))
    assert answer_classes(numbered)["answer_class"].to_list() == [4, 9, 9]


def test_is_correct_of_a_class_is_any_of_its_verdicts() -> None:
    table = verdicts(["7", "7", "8"], is_correct=[None, True, None]).with_columns(
        problem_key="problem_id", answer_key=None
    )
    table = table.with_columns(pl.col("answer_key").cast(pl.String))
    assert answer_classes(table)["is_correct"].to_list() == [True, None]


@given(
    st.lists(st.lists(st.sampled_from(["1", "7", "9", None]), min_size=1, max_size=12), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_agrees_with_counting_by_hand_in_any_row_order(problems: list[list[str | None]], random: object) -> None:
    table = verdicts(*problems)
    order = list(range(len(table)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for row, answers in zip(vote(table[order]).iter_rows(named=True), problems, strict=True):
        counted = Counter(answer for answer in answers if answer is not None)
        expected = counted.most_common(1)[0] if counted else (None, 0)  # insertion order: first seen wins
        assert row["answer"] == expected[0]
        assert abs(row["confidence"] - expected[1] / len(answers)) < 1e-12
