"""verify.exact: the same words in another dress are right, other words aren't."""

# signs of other scripts are what some are about
# ruff: noqa: RUF001

from __future__ import annotations

import polars as pl
import pytest

from operators.verify.exact import VerifyExact


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [
        ("Paris", "Paris", True),
        ("Paris", "paris.", True),
        ("Paris", "The answer is Paris.", True),
        ("Paris", "**Answer:** Paris", True),
        ("Paris", "Answer: **Paris**", True),
        ("Paris", "\\boxed{\\text{Paris}}", True),
        ("Paris", "\\boxed{Paris}", True),
        ("Paris", "<answer>Paris</answer>", True),
        ("Paris", "<think>Paris</think>Rome", False),
        ("Paris", "<think>Rome</think>\nParis", True),
        ("Paris", "Paris, France", False),
        ("Paris", "Not Paris", False),
        ("Paris", "parís", False),
        ("Paris", "  Paris\n", True),
        ("Paris", '"Paris"', True),
        ("Paris", "'Paris'", True),
        ("Paris", "$\\text{Paris}$", True),
        ("12", "12", True),
        ("12", "The answer is 12.", True),
        ("12", "The answer is 12 dollars.", True),
        ("12", "12.0", False),
        ("12", "１２", True),
        ("12", "#### 12", True),
        ("12", "1 2", False),
        ("12", "-12", False),
        ("-12", "−12", True),
        ("-12", "-12", True),
        ("12", "\\boxed{12}", True),
        ("12", "The answer is $12$.", True),
        ("12", "$12", True),
        ("New York", "new  york", True),
        ("New York", "NewYork", False),
        ("New York", "New\nYork", True),
        ("yes", "Yes.", True),
        ("yes", "Yes!", True),
        ("yes", "yes, it is", False),
        ("yes", "The answer is: yes", True),
        ("yes", "The final answer is yes", True),
        ("O'Brien", "O’Brien", True),
        ("café", "café", True),
        ("A", "A", True),
        ("A", "a", True),
        ("A", "(A)", False),
        ("A", "The answer is A", True),
        ("北京", "答案是北京。", True),
        ("北京", "北京", True),
        ("3.5", "The answer is 3.5.", True),
        ("e.g.", "e.g.", True),
        ("U.S.", "U.S.", True),
        ("Dr. No", "The answer is Dr. No.", True),
        ("St. Louis", "Answer: St. Louis", True),
        ("10:30", "The answer is 10:30", True),
        ("x = 5", "x = 5", True),
        ("[1, 2]", "[1, 2]", True),
        ("{'a': 1}", "{'a': 1}", True),
        ("a_b_c", "a_b_c", True),
        ("__init__", "__init__", True),
        ("__init__", "`__init__`", True),
        ("**kwargs", "The answer is **kwargs", True),
        ("a`b", "a`b", True),
        ("C:\\x", "C:\\x", True),
        ("Paris", "I think the answer is Paris", True),
        ("Paris", "The answer is Rome. No, the answer is Paris.", True),
    ],
)
def test_what_is_the_same(gold: str, text: str, right: bool) -> None:
    samples = pl.DataFrame({"sample_index": [0], "completion": [text], "status": ["ok"]})
    samples = samples.with_columns(problem_key=pl.lit("p"), problem_id=pl.lit("p"))
    problems = pl.DataFrame({"problem_key": ["p"], "problem_id": ["p"], "answer": [gold]})
    problems = problems.with_columns(verification=pl.lit(None, dtype=pl.String))
    assert VerifyExact().run(samples, problems)["is_correct"].to_list() == [right]
