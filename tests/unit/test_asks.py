"""What a question asks for: a percentage, a base, a time, a pair."""

from __future__ import annotations

import pytest

from operators.verify.reading.asks import NOTHING, asks_of


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("What percentage of the students passed?", True),
        ("What percent of 80 is 20?", True),
        ("What is 25% of 80?", False),
        ("If 25% of the students passed, how many passed?", False),
        ("Find the percent increase.", True),
        ("By what percentage did sales grow? Round to the nearest tenth.", True),
        ("A shirt costs $20 after 20% off. What was the price?", False),
        ("Express your answer as a percent.", True),
        ("Give your answer as a percentage.", True),
        ("Express your answer as a decimal.", False),
        ("What is the probability, as a percent, of rain?", True),
        ("What is the probability of rain? Express it as a fraction, not a percent.", False),
        ("How many percent more is it?", True),
        ("The tax rate is 8 percent. What is the total?", False),
        ("What is the interest rate (in %)?", True),
        ("What is the annual interest rate, expressed as a percentage?", True),
        ("Calculate the percentage change in price from $40 to $50.", True),
        ("What was the percent error?", True),
        ("She got 80%. What fraction is that?", False),
        ("Convert 3/4 to a percent.", True),
        ("Convert 75% to a fraction.", False),
        ("Write 0.35 as a percent.", True),
        ("Write 35% as a decimal.", False),
        ("A is what percent of B?", True),
        ("x is what percentage greater than y?", True),
        ("How much percent did it decrease", True),
        ("What is the profit percentage?", True),
        ("Find the percentage of boys.", True),
        ("Find the number of boys if the percentage of girls is 40.", False),
        ("What is the minimum percentage that must vote yes?", True),
        ("By how many percent did it fall?", True),
        ("What is the total after a 10% tip?", False),
        ("What's the probability that it's heads? Answer in percent.", True),
        ("Determine the mass percent of carbon.", True),
        ("What is 15 percent of 60?", False),
        ("What percent?\nLet's think step by step.", True),
        (
            "What percentage of the class passed? Please put your final answer within \\boxed{}.",
            True,
        ),
        ("What fraction of the students, who make up 20% of the school, passed?", False),
        ("If the percentage is 20, what is x?", False),
        ("What is the value in percent?", True),
        ("What % of people like it?", True),
        ("How many students are in the top 10%?", False),
        ("Estimate the percent of voters.", True),
        ("what is the discount rate in percent", True),
        ("How many liters of 20% solution are needed?", False),
        ("What concentration (percent) does it have?", True),
        ("What would be her percentage score?", True),
        (
            "What percentage is left? Round it, and don't include the percent sign.",
            True,
        ),
    ],
)
def test_percentages(question: str, asked: bool) -> None:
    assert asks_of(question).percent is asked


@pytest.mark.parametrize(
    ("question", "bases"),
    [
        ("Express 12 in base 2.", {2}),
        ("What is 1011_2 in base 10?", {2, 10}),
        ("Give the base-7 representation.", {7}),
        ("Convert it to binary.", {2}),
        ("Write it in hexadecimal.", {16}),
        ("A triangle has a base of 8 cm and height 5. What is its area?", set()),
        ("The base of the triangle is 8.", set()),
        ("Let $a_1 = 2$. Find $a_5$.", set()),
    ],
)
def test_bases(question: str, bases: set[int]) -> None:
    assert asks_of(question).bases == bases


def test_times_ratios_and_pairs() -> None:
    assert asks_of("At what time does it end?").time
    assert asks_of("It began at 3:15 p.m. and took two hours. When did it end?").time
    assert not asks_of("What is the ratio of the times?").time
    assert asks_of("What is the ratio of boys to girls?").ratio
    assert asks_of("Find the coordinates of the vertex.").pair
    assert not asks_of("Find the interval.").pair


def test_without_a_question_nothing_is_asked() -> None:
    assert asks_of(None) == asks_of("") == NOTHING
