"""verify.math on the many ways to write an answer, on wrong ones that look alike, and on what nobody should parse."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.tools.processes import ProcessWorkers
from operators.select.classes import class_votes
from operators.verify.canonical import cheap_key
from operators.verify.math import VerifyMath
from tests.support import answer_classes


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(2) as workers:
        yield workers


def judge(workers: ProcessWorkers, pairs: list[tuple[str, str]], **settings: float) -> pl.DataFrame:
    """Return the verdicts of (gold, answer) pairs, in order."""
    golds = list(dict.fromkeys(gold for gold, _ in pairs))
    samples = pl.DataFrame(
        {
            "problem_key": [f"p{golds.index(gold)}" for gold, _ in pairs],
            "sample_index": range(len(pairs)),
            "problem_id": "p",
            "completion": [rf"So the answer is \boxed{{{answer}}}." for _, answer in pairs],
            "status": "ok",
        }
    )
    problems = pl.DataFrame({"problem_key": [f"p{i}" for i in range(len(golds))], "answer": golds})
    return VerifyMath(**{"timeout": 60.0, **settings}).run(samples, problems, workers)


EQUAL: list[tuple[str, ...]] = [
    ("1/2", r"\frac{1}{2}", r"\dfrac12", r"\tfrac{2}{4}", "0.5", ".5", "0.50", r"50\%", "50%", "50 percent", "+1/2"),
    ("-1/2", r"-\frac{1}{2}", r"\frac{-1}{2}", "-0.5", "\N{MINUS SIGN}0.5"),
    ("1000", "1,000", r"1{,}000", r"1\,000", r"1\!,000", "10^3", "1e3", r"1 \times 10^3", "1000.0", "2000/2"),
    ("1500000", "1.5 million", r"1.5\times 10^{6}", "1,500,000"),
    ("3/2", r"1\frac{1}{2}", "1.5", r"150\%"),
    ("90", r"90^\circ", r"90^{\circ}", "90 degrees", "90\N{DEGREE SIGN}", r"90\text{ degrees}", "x = 90"),
    ("5", "5 cm", r"5\text{ cm}", r"5 \mathrm{~cm}", "5 dollars", r"\$5", "5 square units", "5 cm^2", "x=5", "5."),
    (r"50\%", "50", "50%", "0.5", "1/2", "50 percent"),
    ("1/3", "0.333333", "0.33333333"),
    (r"\{1,2,3\}", r"\{3,1,2\}", r"\{ 1, 2, 3 \}", r"\left\{1,2,3\right\}"),
    ("1,2", "2,1", "1, 2", "1 and 2", "x=1 or x=2", r"\{1,2\}"),
    ("(1,2)", r"\left(1, 2\right)", "(1.0, 2)", "( 1 , 2 )"),
    ("(0,1]", r"\left(0,1\right]", "(0, 1.0]"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    ("x^2+2x+1", "(x+1)^2", "1+2x+x^2"),
    (r"2\sqrt{2}", r"\sqrt{8}", r"\sqrt8", r"2 \sqrt{2}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", r"\dfrac{\sqrt{2}}{2}"),
    (r"2\pi", r"\pi \cdot 2", r"2 \pi"),
    ("2+3i", "3i+2"),
    ("y=2x+1", "y = 1 + 2x", "2x+1"),
    (r"3\pm\sqrt{2}", r"3+\sqrt{2}, 3-\sqrt{2}"),
    (r"\infty", r"+\infty"),
    ("x>5", "5<x"),
    (r"\text{Monday}", "Monday", "monday", r"\textbf{Monday}"),
    ("A", "(A)", r"\text{A}", r"\textbf{(A)}"),
    (r"10_{2}", "10_2"),
    (r"\log_2 8", "3"),
]

UNEQUAL: list[tuple[str, ...]] = [
    ("1/2", "2", "-1/2", "0.05", "5%", "0.5%", "1/20", "(1/2, 1)", r"\sqrt{1/2}", "0.4999", "half of x"),
    ("5", "-5", "6", "50", "5.1", "1/5", "5i", "5x", r"\sqrt{5}", "(5,1)", "5,6", "0.5", "5 million"),
    ("50", "0.5", "5%", "500%", "50%", r"50\%"),
    ("1/3", "0.3333", "0.33", "3", "33%"),
    ("1,234", "1, 234, 5", "1234.5", "12345"),
    ("(0,1]", "[0,1]", "(0,1)", "[0,1)", "(0,2]"),
    (r"(-\infty,1)\cup(2,\infty)", r"(-\infty,1]\cup(2,\infty)", r"(-\infty,2)", r"(-\infty,1)"),
    (r"\{1,2,3\}", r"\{1,2\}", r"\{1,2,4\}", r"\{1,2,3,4\}"),
    ("1,2", "1", "2", "1,3", "1,2,3", "-1,2"),
    ("(1,2)", "(2,1)", "(1,2,3)", "(1,-2)", "(1)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}"),
    ("x^2+2x+1", "x^2+2x-1", "(x-1)^2", "x^2+1"),
    (r"2\sqrt{2}", r"2\sqrt{3}", r"3\sqrt{2}", "2", r"\sqrt{2}", r"-2\sqrt{2}"),
    ("2+3i", "2-3i", "3+2i", "2+3"),
    ("x>5", r"x\ge 5", "x<5", "x>6"),
    (r"\text{Monday}", "Tuesday", "Mon"),
    ("A", "B", "(B)", "AB"),
    ("10_2", "10_3", "11_2"),
    (r"\infty", r"-\infty", "1"),
]  # fmt: skip


def test_equal_forms_are_right(workers: ProcessWorkers) -> None:
    pairs = [(forms[0], form) for forms in EQUAL for form in forms]
    found = judge(workers, pairs)
    wrong = [pair for pair, right in zip(pairs, found["is_correct"], strict=True) if not right]
    assert not wrong


def test_unequal_forms_are_wrong(workers: ProcessWorkers) -> None:
    pairs = [(forms[0], form) for forms in UNEQUAL for form in forms[1:]]
    found = judge(workers, pairs)
    accepted = [pair for pair, right in zip(pairs, found["is_correct"], strict=True) if right is not False]
    assert not accepted


def test_equal_forms_vote_together(workers: ProcessWorkers) -> None:
    """All writings of an answer are one class. Of a percentage that nobody asked for, the bare number isn't."""
    pairs = [(forms[0], form) for forms in EQUAL for form in forms if forms[0] != r"50\%"]
    found = judge(workers, pairs)
    counts = answer_classes(found).group_by("problem_key").agg(pl.col("answer_class").n_unique())
    split = counts.filter(pl.col("answer_class") > 1)["problem_key"].to_list()
    golds = list(dict.fromkeys(gold for gold, _ in pairs))
    assert [golds[int(key[1:])] for key in split] == ["5"]  # centimetres and dollars


def rewritten(value: Fraction, rng: random.Random) -> str:
    """Write a number in one of the ways in which models do."""
    above, below, times = value.numerator, value.denominator, rng.randint(2, 9)
    sign = "-" if value < 0 else ""
    forms = [
        f"{above}/{below}",
        rf"{sign}\frac{{{abs(above)}}}{{{below}}}",
        rf"\dfrac{{{above}}}{{{below}}}",
        rf"\frac{{{above * times}}}{{{below * times}}}",
        f"x = {above}/{below}",
    ]
    whole = below
    for prime in (2, 5):
        while whole % prime == 0:
            whole //= prime
    if whole == 1:
        forms += [f"{float(value)}", f"{float(value)}00", rf"{float(100 * value)}\%"]
    if below == 1:
        forms += [
            f"{above:,}",
            f"{above:,}".replace(",", "{,}"),
            rf"{above}^\circ",
            f"{above} cm",
            rf"{above}\text{{ dollars}}",
        ]
    elif abs(value) > 1:
        forms.append(rf"{sign}{abs(above) // below}\frac{{{abs(above) % below}}}{{{below}}}")
    return rng.choice(forms)


def test_generated_forms(workers: ProcessWorkers) -> None:
    """600 rewritten numbers are right, 600 perturbed ones are wrong."""
    rng = random.Random(5)
    right: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    while len(right) < 600:
        value = Fraction(rng.choice([-1, 1]) * rng.randint(1, 5000), rng.choice([1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 25]))
        other = rng.choice([-value, value + 1, value - Fraction(1, 10), value * 10, 1 / value])
        right.append((str(value), rewritten(value, rng)))
        if value not in (other, 100 * other, other / 100):  # 1% may be 1
            wrong.append((str(value), rewritten(other, rng)))
    assert judge(workers, right)["is_correct"].all()
    assert not judge(workers, wrong)["is_correct"].any()


PATHOLOGICAL = [
    r"9^{9^{9^{9}}}", r"10^{10^{10}}", "1000000000!", "x^{x^{x^{x}}}", "(x+1)^{50000}", "e^{e^{e^{10}}}", "1e999999999",
    r"\sqrt{" * 200 + "2" + "}" * 200, "9" * 10_000, "0." + "3" * 5_000, "1/" + "7" * 3_000, r"\frac{1}{0}", "0/0",
    r"\frac{" * 100, "{" * 5_000, "(" * 5_000 + ")" * 5_000, "\0\0\0", "1\0", r"\boxed{\boxed{", "\u202e123", "\\" * 3_001,
    r"\sum_{i=1}^{10^9} i", ",".join(map(str, range(3_000))), r"\begin{pmatrix}" + "1&" * 500 + r"\end{pmatrix}",
    "-" * 900 + "1", r"\infty-\infty", "nan", "9" * 1_000_000, "x" * 1_000_000, r"1 \times 10^{99999999}",
]  # fmt: skip


@pytest.mark.parametrize(
    "gold", [r"9^{9^{9}}", r"\sqrt{2}", *(pytest.param(gold, marks=pytest.mark.long) for gold in ("5", "9" * 10_000))]
)
def test_pathological_answers_cost_a_bounded_time(workers: ProcessWorkers, gold: str) -> None:
    began = time.monotonic()
    found = judge(workers, [(gold, answer) for answer in PATHOLOGICAL], timeout=0.5)
    assert time.monotonic() - began < 600
    assert len(found) == len(PATHOLOGICAL)
    assert set(found["status"]) <= {"ok", "timeout", "unparseable"}
    assert found.filter(pl.col("status") == "timeout")["is_correct"].is_null().all()
    right = found.filter(pl.col("is_correct"))["predicted_answer"].to_list()
    assert right == [answer for answer in PATHOLOGICAL if answer == gold]
    assert found["answer_key"].str.len_bytes().max() <= 1000  # pyright: ignore


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("50%", "50%"),
        ("0.50", "1/2"),
        ("x = 7 cm", "7"),
        ("(B)", "b"),
        ("1 1/2", "3/2"),
        ("1 2", None),
        ("12 345", "12345"),
        ("1 / 2", "1/2"),
        ("5 5/4", None),
        ("5 am", None),
        ("2 pi", None),
    ],
)
def test_cheap_keys(answer: str, key: str | None) -> None:
    assert cheap_key(answer) == key


def verdicts(keys: list[str], right: dict[str, bool] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "problem_key": "p",
            "sample_index": range(len(keys)),
            "verifier": "v",
            "predicted_answer": keys,
            "answer_key": keys,
            "is_correct": [(right or {}).get(key) for key in keys],
            "status": "ok",
        },
        schema_overrides={"is_correct": pl.Boolean, "sample_index": pl.Int64},
    )


def partition(keys: list[str]) -> set[frozenset[str]]:
    classes = answer_classes(verdicts(keys))
    return {frozenset(found) for found in classes.group_by("answer_class").agg("answer_key")["answer_key"].to_list()}


def test_classes_unite_what_is_equal() -> None:
    assert partition(["50%", "1/2", "50"]) == {frozenset({"50%", "1/2"}), frozenset({"50"})}
    assert partition(["50%", "50"]) == {frozenset({"50%"}), frozenset({"50"})}
    assert partition(["50%", "x"]) == {frozenset({"50%"}), frozenset({"x"})}
    assert partition(["1/3", "333333/1000000", "33/100"]) == {
        frozenset({"1/3", "333333/1000000"}),
        frozenset({"33/100"}),
    }
    assert partition(["1", "1000001/1000000"]) == {frozenset({"1"}), frozenset({"1000001/1000000"})}


@settings(deadline=None)  # the first call reads the keys, later ones know them
@given(st.permutations(["50%", "1/2", "50", "1/3", "333333/1000000", "3333333/10000000", "0.5%", "1/2%", "x+1"]))
def test_classes_do_not_depend_on_order(keys: list[str]) -> None:
    assert partition(keys) == partition(sorted(keys))


def test_a_class_is_as_right_as_its_most_frequent_key() -> None:
    """A vote mustn't profit from a lone right spelling that could also be read as the wrong answer."""
    [first] = class_votes(verdicts(["50"] * 3 + ["50 cm"], {"50": False, "50 cm": True})).to_dicts()
    assert (first["votes"], first["answer"], first["is_correct"]) == (4, "50", False)


def test_what_is_right_has_no_part_in_classes() -> None:
    keys = ["1/2", "3/4", "x"]
    assert answer_classes(verdicts(keys, {"1/2": True, "3/4": True}))["answer_class"].n_unique() == 3


def test_of_verdicts_that_disagree_the_majority_counts(caplog: pytest.LogCaptureFixture) -> None:
    """A class isn't right because one verdict says so; that they disagree is said once."""
    table = verdicts(["a"] * 3 + ["b"] * 2).with_columns(is_correct=pl.Series([False, False, True, True, False]))
    found = {row["answer"]: row["is_correct"] for row in class_votes(table).to_dicts()}
    assert found == {"a": False, "b": False}
    class_votes(table)
    assert [record.message for record in caplog.records] == [
        "The verdicts of the answer 'a' to problem 'p' disagree; what most verdicts of an answer say counts"
    ]
