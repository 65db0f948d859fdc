"""Which answers vote together: what says less joins the largest class, and what says something else never does."""

# signs of other scripts are what some are about

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from cluster.tools.processes import ProcessWorkers
from operators.select.classes import equivalent_keys
from operators.verify.math import VerifyMath

CASES: list[tuple[str, dict[str, int], list[list[str]]]] = [
    ("Solve it.", {"12": 5, "12 cm": 3, "0.12 m": 2, "12 m": 4}, [["12", "12 cm", "0.12 m"], ["12 m"]]),
    ("Solve it.", {"12": 1, "12 cm": 3, "12 m": 4}, [["12", "12 m"], ["12 cm"]]),
    ("Solve it.", {"12 cm": 1, "12 m": 1, "12 kg": 1}, [["12 cm"], ["12 m"], ["12 kg"]]),
    ("Solve it.", {"12 apples": 3, "12 pears": 2, "12": 1}, [["12 apples", "12"], ["12 pears"]]),
    ("Solve it.", {"12 cm": 3, "12 apples": 2, "12": 1}, [["12 cm", "12"], ["12 apples"]]),
    ("What percentage of students passed?", {"50": 3, "50\\%": 2, "0.5": 4}, [["50", "50\\%"], ["0.5"]]),
    ("Solve it.", {"50": 3, "50\\%": 2, "0.5": 4}, [["50"], ["50\\%", "0.5"]]),
    ("What percentage of students passed?", {"50": 3, "0.5": 2, "1/2": 4}, [["50"], ["0.5", "1/2"]]),
    ("What percentage of students passed?", {"0.5\\%": 1, "0.5": 3, "50\\%": 2}, [["0.5\\%", "0.5"], ["50\\%"]]),
    ("Express in base 8", {"2516": 1, "2516_8": 2, "2516_9": 3, "1358": 4}, [["2516", "2516_8"], ["2516_9"], ["1358"]]),
    ("Solve it.", {"2516": 1, "2516_8": 2, "2516_9": 3}, [["2516"], ["2516_8"], ["2516_9"]]),
    ("Solve it.", {"\\$5": 3, "€5": 2, "5": 1, "5 cents": 1}, [["\\$5", "5"], ["€5"], ["5 cents"]]),
    ("Solve it.", {"\\$5": 1, "500 cents": 1, "5 dollars": 1, "5": 1}, [["\\$5", "500 cents", "5 dollars", "5"]]),
    ("What time?", {"6": 1, "6 p.m.": 3, "6 a.m.": 2, "18:00": 1}, [["6", "6 p.m.", "18:00"], ["6 a.m."]]),
    ("What time?", {"6:30": 5, "6:30 p.m.": 1, "6:30 a.m.": 2}, [["6:30", "6:30 a.m."], ["6:30 p.m."]]),
    ("Solve it.", {"3:4": 1, "3/4": 1, "0.75": 1, "75\\%": 1, "4:3": 1}, [["3:4", "3/4", "0.75", "75\\%"], ["4:3"]]),
    (
        "Solve it.",
        {"x=3,y=5": 1, "(3,5)": 1, "y=5,x=3": 1, "(5,3)": 1, "x=5,y=3": 1},
        [["x=3,y=5", "(3,5)", "y=5,x=3"], ["(5,3)", "x=5,y=3"]],
    ),
    ("Solve it.", {"x=3": 1, "3": 1, "y=3": 2}, [["y=3", "3"], ["x=3"]]),
    (
        "Solve it.",
        {"3,5": 1, "5,3": 1, "3 and 5": 1, "3, 5, 5": 1, "3": 1},
        [["3,5", "5,3", "3 and 5"], ["3, 5, 5"], ["3"]],
    ),
    (
        "Solve it.",
        {"3e-9": 1, "5e-9": 1, "3\\times10^{-9}": 1, "0.000000003": 1},
        [["3e-9", "3\\times10^{-9}", "0.000000003"], ["5e-9"]],
    ),
    (
        "Solve it.",
        {"1000000000001": 1, "1000000000002": 1, "1000000000001.0": 1},
        [["1000000000001", "1000000000001.0"], ["1000000000002"]],
    ),
    ("Solve it.", {"12345678.1": 1, "12345678.2": 1}, [["12345678.1"], ["12345678.2"]]),
    (
        "Solve it.",
        {"\\text{Paris}": 1, "paris": 1, "Paris.": 1, "London": 1},
        [["\\text{Paris}", "paris", "Paris."], ["London"]],
    ),
    ("Solve it.", {"x^2+2x+1": 1, "(x+1)^2": 1, "y=(x+1)^2": 1}, [["x^2+2x+1", "(x+1)^2", "y=(x+1)^2"]]),
    ("Solve it.", {"-3": 1, "3": 1, "−3": 1, "|3|": 1}, [["-3", "−3"], ["3", "|3|"]]),
    (
        "Solve it.",
        {"12 apples": 1, "12 red apples": 2, "12 green apples": 3},
        [["12 apples", "12 green apples"], ["12 red apples"]],
    ),
    ("Solve it.", {"5 feet": 1, "5 meters": 2, "5": 3, "60 inches": 4}, [["5 feet", "60 inches", "5"], ["5 meters"]]),
    (
        "Express in base 2",
        {"1100": 1, "1100_2": 1, "12": 1, "1100_{10}": 1},
        [["1100", "1100_2"], ["12"], ["1100_{10}"]],
    ),
    (
        "Express it in hexadecimal.",
        {"1A": 1, "1a": 1, "1A_{16}": 1, "A1": 1, "26": 1, "A": 1},
        [["1A", "1a", "1A_{16}"], ["A1"], ["26"], ["A"]],
    ),
    (
        "Solve it.",
        {"12 cm^2": 2, "12 cm": 1, "144 cm": 1, "12": 1, "12 square cm": 1},
        [["12 cm^2", "12 square cm", "12"], ["12 cm"], ["144 cm"]],
    ),
    ("Solve it.", {"March 5": 1, "march 5": 1, "March 6": 1, "5": 1}, [["March 5", "march 5"], ["March 6"], ["5"]]),
    ("Solve it.", {"5 m": 1, "500 cm": 1, "5": 6, "500": 4}, [["5 m", "500 cm", "5"], ["500"]]),
    (
        "Solve it.",
        {"90^\\circ": 3, "\\frac{\\pi}{2}\\text{ radians}": 1, "90": 1, "\\frac{\\pi}{2}": 1},
        [["90", "90^\\circ", "\\frac{\\pi}{2}\\text{ radians}"], ["\\frac{\\pi}{2}"]],
    ),
    ("Solve it.", {"0": 1, "0\\%": 1, "0 cm": 2}, [["0", "0 cm"], ["0\\%"]]),
]
"""Question, votes of each answer, and who is in one class."""


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(2) as workers:
        yield workers


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("asked", "votes", "classes"), CASES)
def test_who_votes_together(
    workers: ProcessWorkers, asked: str, votes: dict[str, int], classes: list[list[str]], turned: bool
) -> None:
    answers = list(votes)[::-1] if turned else list(votes)
    texts = [answer for answer in answers for _ in range(votes[answer])]
    samples = pl.DataFrame({"sample_index": range(len(texts)), "completion": [rf"\boxed{{{text}}}" for text in texts]})
    samples = samples.with_columns(problem_key=pl.lit("p"), problem_id=pl.lit("p"), status=pl.lit("ok"))
    problems = pl.DataFrame({"problem_key": ["p"], "problem_id": ["p"], "prompt": [asked], "answer": ["?"]})
    verdicts = VerifyMath(timeout=60.0).run(samples, problems, workers).with_columns(text=pl.Series(texts))
    counted = verdicts.group_by("problem_key", "answer_key").agg(votes=pl.len().cast(pl.Int64))
    united = dict(equivalent_keys(counted).select("answer_key", "united").iter_rows())
    found: dict[str, set[str]] = {}
    for text, key in verdicts.select("text", "answer_key").iter_rows():
        found.setdefault(united[key], set()).add(text)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, classes))
