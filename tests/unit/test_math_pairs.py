"""Labelled pairs of golds and answers for the kinds that come with units, percentages, times, lists and several golds.

Each row says why: question (where it matters), gold, what is right, what is wrong.
"""

# signs of other scripts are what some are about
# ruff: noqa: RUF001

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import pytest

from cluster.tools.processes import ProcessWorkers
from operators.verify.math import VerifyMath
from tests.support import answer_classes


@dataclass(frozen=True)
class Row:
    why: str
    gold: str
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    asked: str = "Solve it."
    given: str | None = None


PERCENT = "What percentage of the students passed?"
ROWS = [
    Row("halves and quarters are part of the number", "3", (r"3\text{ widgets}", r"3\text{ halfway points}"),
        (r"3\text{ halves}", r"3\text{ quarters}", r"3\text{ tenths}")),
    Row("the same the other way round", r"3\text{ halves}", wrong=("3", "6")),
    Row("a comparison is no label", "10",
        wrong=(r"10\text{ less than }x", r"10\text{ more than }y", "10 fewer than n")),
    Row("a mixed number isn't an improper one", "31/2", (r"\frac{31}{2}", "15.5"), ("3 1/2", r"3\frac12")),
    Row("the same the other way round", "3 1/2", ("7/2", r"3\frac12"), ("31/2",)),
    Row("minutes are no minimum", r"1.5\text{ h}", (r"90\text{ min}", "90 minutes"), (r"9\text{ min}",)),
    Row("an hour after twelve says its half of the day", r"6:30\text{ a.m.}", ("6:30",), ("18:30", "6:30 p.m.")),
    Row("the same the other way round", "18:30", ("6:30 p.m.",), ("6:30 a.m.",), "At what time does it end?"),
    Row("half past midnight", r"12:30\text{ p.m.}", ("12:30",), ("0:30",), "At what time does it end?"),
    Row("a unit that one side leaves out is no difference", r"12 \text{ cm}", ("12", "12 cm",
            r"12\,\mathrm{cm}", "12 centimetres"),
        ("12 m", "12 kg", "1.2", "12 cm^2", "120 cm", "12 eggs")),
    Row("the same the other way round", "12", ("12 cm", "12 m", r"12\text{ widgets}", "12 km/h", r"\$12", "12 people")),
    Row("units of one kind are converted", "12 cm", ("0.12 m", "120 mm", r"\frac{3}{25}\text{ m}"),
        ("0.12 km", "1.2 m", "12 mm")),
    Row("so are compound ones", "36 km/h", ("10 m/s", "36 kilometers per hour", "36"), ("10 km/h", "36 m/s", "36 mph")),
    Row("and sums of them", "150 minutes", ("2.5 hours", "2 hours 30 minutes", "2 h 30 min", "150"),
        ("2.5 minutes", "2 hours 50 minutes", "150 seconds")),
    Row("weights", "2.5 kg", ("2500 g", "2.5 kilograms", "2.5"), ("2.5 g", "250 g", "2.5 lb")),
    Row("areas and volumes", r"3 \text{ m}^2", ("30000 cm^2", "3 square meters", "3"),
        ("3 m", "300 cm^2", "3 cubic meters")),
    Row("litres are volumes", "2 liters", ("2000 mL", "2000 cm^3", "2 L"), ("2 mL", "200 mL", "2 gallons")),
    Row("angles in degrees and radians", r"180^\circ", (r"\pi \text{ radians}", "180 degrees", "180"),
        (r"2\pi \text{ radians}", r"\pi", "90 degrees")),
    Row("temperatures have different zeros", r"20^\circ\text{C}", (r"68^\circ\text{F}", "20 degrees Celsius", "20"),
        (r"20^\circ\text{F}", "36 degrees Fahrenheit")),
    Row("currencies count where both carry one", r"\$5", ("5", "5 dollars", "500 cents", "$5.00"),
        ("5 euros", "€5", "5 cents", r"\$50")),
    Row("euros", "€20", ("20", "20 euros"), (r"\$20", "£20", "20 yen")),
    Row("square units are no unit", "24 square units", ("24", "24 units^2", "24 cm^2"), ("42",)),
    Row("a noun behind a number is a label", "7 apples", ("7", "7 apples", "7 red apples", "7 Apples."),
        ("7 pears", "8 apples", "70")),
    Row("labels in text", r"12\text{ widgets}", ("12", "12 widgets"), ("12 gadgets", "13 widgets")),
    Row("answers in words stay words", r"\text{Evelyn}", ("Evelyn", "evelyn", r"\textbf{Evelyn}"), ("Evan", "12", "e")),
    Row("more words", "no solution", ("no solution", "No solution."), ("one solution", "0")),
    Row("n% is n/100", "0.35", (r"35\%", "35 percent", "35%", "7/20"), ("35", "0.35%", "3.5%")),
    Row("a bare number isn't a percentage unasked", "40", ("40", "40.0", "4000%"), ("40%", r"40\%", "0.4")),
    Row("the gold carries the sign", r"40\%", ("40", "40%", "0.4", "2/5", "40 percent"), ("4", "4%", "0.4%", "4000")),
    Row("a percentage is asked", "40", ("40", "40%", "0.4", "2/5", "40 per cent"), ("4", "0.4%", "4%", "60"), PERCENT),
    Row("asked, with instructions behind", "12.5", ("12.5%", "12.5", "0.125", "1/8"),
        ("125", "12"), "By what percent did it grow? Round to one decimal."),
    Row("a percentage in the question isn't asked for", "12", ("12",), ("12%", "0.12"), "What is 20% of 60?"),
    Row("only the last sentence asks", "30", ("30",),
        ("30%",), "What percentage did he save? He saved a third. How much did he pay?"),
    Row("percentages of formulas", r"\frac{100}{3}\%", (r"33\frac{1}{3}\%", r"\frac13", r"\frac{100}{3}"),
        (r"\frac{1}{3}\%", "33%")),
    Row("a base that the question names", "2516_8", ("2516", "2516_8", "2516_{8}", "2516 base 8",
            r"2516_{\text{eight}}"),
        ("2516_9", "1358", "2516_{10}", "2517"), "What is it in base eight?"),
    Row("a base that it doesn't name", "2516_8", ("2516_8", "2516_{8}"), ("2516", "2516_7", "1358")),
    Row("letters are digits", "1A_{16}", ("1a_{16}", "0x1A"), ("26", "1B_{16}", "1A_{12}")),
    Row("half of the day", r"6\text{ p.m.}", ("6", "6 pm", "6:00 PM", "18:00", "6 o'clock"),
        ("6 a.m.", "6:30 p.m.", "7 p.m.", "5")),
    Row("minutes", "6:45 a.m.", ("6:45", "6:45 AM"), ("6:45 PM", "5:45 a.m.", "6:44 a.m.", "645")),
    Row("a clock where the question says time", "11:30", ("11:30", "11:30 a.m."),
        ("11/30", "11:20", "22:60", "11.5"), "At what time do they meet?"),
    Row("full hours differ", "9:00", ("9:00", "9 o'clock"), ("5:00", "10:00", "9:30")),
    Row("what looks like a clock is compared as one", "2:30", ("2:30", "2:30 p.m."), ("4:60", "2:35", "3:30")),
    Row("else a ratio equal to its quotient", "3:4", ("3/4", "0.75", "6:8", r"\frac34", "3 to 4"),
        ("4:3", "3", "4/3", "1:4")),
    Row("and the other way round", r"\frac{3}{4}", ("3:4", "9:12"), ("4:3", "34")),
    Row("ratios of three", "1:2:3", ("2:4:6", "1 : 2 : 3"), ("3:2:1", "1:2:4", "1:2")),
    Row("bare lists have no order, but multiplicity", "3, 5, 5", ("5, 3, 5", "3, 5 and 5", r"x=3, 5, 5"),
        ("3, 5", "3, 3, 5", "3, 5, 5, 5")),
    Row("they equal a set or a tuple where the gold is bare", "3, 5", ("(3,5)", "(5,3)", r"\{5,3\}",
            "x=5 or x=3", "3; 5"),
        ("[3,5]", "(3,5,5)", r"\{3\}", "3", "8")),
    Row("tuples keep their order", "(3,5)", ("3,5", "(3, 5)", r"\langle 3,5\rangle", "(3.0,5)"),
        ("(5,3)", "5,3", r"\{3,5\}", "[3,5]", "(3,5)_2")),
    Row("sets don't count", r"\{1,2,2\}", (r"\{2,1\}", r"\{1,2\}", "1, 2"), (r"\{1\}", r"\{1,2,3\}", "(1,2)")),
    Row("one value in braces", r"\{5\}", ("5", "x=5"), ("6", r"\{5,6\}")),
    Row("a pair is an open interval", "(0,2)", ("0<x<2", "2>x>0", r"x\in(0,2)", "]0,2["),
        ("[0,2]", r"0\le x\le 2", "0<x<3", "(2,0)")),
    Row("and the other way round", "0<x<2", ("(0,2)", r"x \in (0,2)"), ("(0,2]", "(0,3)", "0<y<2", r"\{0,2\}")),
    Row("not where a pair is asked", "(0,2)", ("(0,2)", "0,2"), ("0<x<2",), "Find the ordered pair (a,b)."),
    Row("nor a point", "(1,4)", ("(1,4)",), ("1<x<4",), "At which point do the curves meet?"),
    Row("unions", r"(-\infty,1)\cup(2,\infty)", (r"x<1 \text{ or } x>2", r"(2,\infty)\cup(-\infty,1)", "x<1, x>2"),
        ("x>1", "1<x<2", r"(-\infty,1]\cup(2,\infty)")),
    Row("half-open intervals", "[1,5)", (r"1\le x<5", r"5>x\ge1"), ("(1,5)", "[1,5]", r"1<x\le 5")),
    Row("labels keep their values", "x=3, y=5", ("y=5, x=3", "(3,5)", "3, 5", "(x,y)=(3,5)", r"x=3 \text{ and } y=5"),
        ("x=5, y=3", "(5,3)", r"\{3,5\}", "5, 3", "a=3, b=5")),
    Row("one label", "x=5", ("5", "x = 5", "5 = 5"), ("y=5", "x=6", "x=-5")),
    Row("plus and minus are two", r"2\pm\sqrt3", (r"2+\sqrt3, 2-\sqrt3", r"x = 2 \pm \sqrt{3}"),
        (r"2+\sqrt3", r"-2\pm\sqrt3", r"3\pm\sqrt2")),
    Row("small numbers differ", r"3\times10^{-9}", ("3e-9", "0.000000003"), ("5e-9", "-3e-9", "0", r"3\times10^{-8}")),
    Row("six decimals and six digits", r"\frac13", ("0.333333", "0.3333333"), ("0.33333", "0.333334", "0.33")),
    Row("roots and decimals", r"\sqrt2", ("1.414214", r"\frac{2}{\sqrt2}"), ("1.41", "1.4142", "2")),
    Row("nothing is half judged", "7", ("7",),
        (r"7\sqrt2", "7√2", r"7\mathrm{e}", "7²", r"7\frac", r"7\cdot", "7x", "7!")),
    Row("upright constants", r"1-\frac{1}{\mathrm e}", (r"1-\frac1e", r"1-e^{-1}"),
        (r"1+\frac{1}{\mathrm{e}}", "1", "0.63")),
    Row("signs of other scripts", "-3", ("–3", "−3", "—3", "－3"), ("3", "+3")),
    Row("any of several golds", "3", ("3", "-7", "seven"),
        ("7", "4", "3, -7"), given='{"answers": {"any": ["3", "-7", "seven"]}}'),
    Row("all of several golds, one to one", "3, 5", ("3, 5", "5 and 3", r"\{3,5\}", "five, 3"),
        ("3", "3, 3", "3, 5, 5", "5, 4"), given='{"answers": {"all": ["3", ["5", "five"]]}}'),
    Row("an absolute tolerance", "9.81", ("9.8", "9.82", r"\frac{98}{10}"),
        ("9.7", "10", "-9.81"), given='{"math": {"tolerance": {"absolute": 0.02}}}'),
    Row("a relative one", "2000", ("1990", "2019", "2000.0 m"),
        ("1970", "2100", "20"), given='{"math": {"tolerance": {"relative": 0.01}}}'),
    Row("one for each of all", "1, 20", ("1.05, 21.5", "18.5 and 0.95", "1, 20"), ("1.5, 20", "1, 23", "1.05"),
        given='{"answers": {"all": ["1", "20"]}, "math": {"tolerance": {"absolute": [0.1, 2]}}}'),
    Row("one for all", "1, 20", ("1.05, 20.05", "20, 0.95"), ("1.5, 20", "1, 21.5"),
        given='{"answers": {"all": ["1", "20"]}, "math": {"tolerance": {"absolute": 0.1}}}'),
    Row("each of two kinds", "1, 20", ("1.05, 21.5", "1, 20"), ("1.5, 20", "1, 23"),
        given='{"answers": {"all": ["1", "20"]}, "math": {"tolerance": {"absolute": [0.1, 0], "relative": [0, 0.1]}}}'),
]  # fmt: skip


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(2) as workers:
        yield workers


def verdicts(workers: ProcessWorkers, rows: list[Row]) -> pl.DataFrame:
    """Return the verdicts of all answers; the number of the row is the problem's key."""
    samples = [(str(number), text) for number, row in enumerate(rows) for text in row.right + row.wrong]
    drawn = pl.DataFrame({"problem_key": [key for key, _ in samples], "sample_index": range(len(samples))})
    texts = [rf"So it is \boxed{{{text}}}." for _, text in samples]
    drawn = drawn.with_columns(pl.Series("completion", texts), problem_id="problem_key", status=pl.lit("ok"))
    asked = pl.DataFrame(
        {
            "problem_key": [str(number) for number in range(len(rows))],
            "problem_id": "p",
            "prompt": [row.asked for row in rows],
            "answer": [row.gold for row in rows],
            "verification": [row.given for row in rows],
        },
        schema_overrides={"verification": pl.String},
    )
    # on a busy machine the first formula waits for its process to import SymPy
    return VerifyMath(timeout=60.0).run(drawn, asked, workers)


def test_pairs(workers: ProcessWorkers) -> None:
    pairs = [(row, text, text in row.right) for row in ROWS for text in row.right + row.wrong]
    assert len(pairs) >= 300
    found = verdicts(workers, ROWS)["is_correct"].to_list()
    differing = [
        (row.why, row.gold, text, said)
        for (row, text, right), said in zip(pairs, found, strict=True)
        if said is not right
    ]
    assert not differing


VOTES = [
    # answers of one problem with their number, and the classes that they make
    ("Solve it.", ["12", "12 cm", "0.12 m", "12 m"], [{"12", "12 cm", "3/25 m"}, {"12 m"}]),
    ("Solve it.", ["50%", "0.5", "50"], [{"50%", "1/2"}, {"50"}]),
    (PERCENT, ["50%", "50", "0.5"], [{"50%", "50(%)"}, {"1/2(%)"}]),
    ("What is it in base 8?", ["17", "17_8", "17_9"], [{"17(_8)", "17_8"}, {"17_9"}]),
    ("Solve it.", ["17", "17_8"], [{"17"}, {"17_8"}]),
    ("Solve it.", ["6 p.m.", "6", "6 a.m.", "6 a.m."], [{"6:00 am", "6"}, {"6:00 pm"}]),
    ("Solve it.", [r"\$5", "5", "5 euros"], [{"5 dollar", "5"}, {"5 euro"}]),
    ("Solve it.", ["(3,5)", "3,5", "(5,3)", r"\{3,5\}"], [{"(3, 5)", "3, 5"}, {"(5, 3)"}, {"{3, 5}"}]),
    ("Solve it.", ["3,5", "5,3"], [{"3, 5", "5, 3"}]),
    ("Solve it.", ["3e-9", "5e-9"], [{"3/1000000000"}, {"1/200000000"}]),
    ("Solve it.", ["x=3, y=5", "(3,5)", "x=5, y=3"], [{"x=3, y=5", "(3, 5)"}, {"x=5, y=3"}]),
    ("Solve it.", ["2:30", "4:60"], [{"2:30"}, {"4:60"}]),
    ("Solve it.", ["x<3", r"(-\infty,3)"], [{"x: (-oo, 3)", "(-oo, 3)"}]),
]


def test_votes_unite_what_agrees_and_nothing_else(workers: ProcessWorkers) -> None:
    rows = [Row(str(number), "?", tuple(texts), asked=asked) for number, (asked, texts, _) in enumerate(VOTES)]
    classes = answer_classes(verdicts(workers, rows))
    found = classes.group_by("problem_key", "answer_class").agg("answer_key").sort("answer_class")
    for number, (_, texts, expected) in enumerate(VOTES):
        mine = [set(keys) for keys in found.filter(pl.col("problem_key") == str(number))["answer_key"].to_list()]
        assert sorted(map(sorted, mine)) == sorted(map(sorted, expected)), texts


def test_equal_keys_are_judged_alike(workers: ProcessWorkers) -> None:
    found = verdicts(workers, ROWS)
    several = found.group_by("problem_key", "answer_key").agg(pl.col("is_correct").n_unique())
    assert several["is_correct"].max() == 1


def test_a_formula_with_a_remainder_is_unparseable(workers: ProcessWorkers) -> None:
    rows = [Row("", "4", (r"4\frac", "4 modulo", "at least 4", "(4", r"4\cdot", "4 cm", "four", "x+4"))]
    found = verdicts(workers, rows)["status"].to_list()
    assert found == ["unparseable"] * 5 + ["ok"] * 3
