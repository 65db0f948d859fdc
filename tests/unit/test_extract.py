"""Where answers are found in what models write."""

# full-width signs are what some are about
# ruff: noqa: RUF001

from __future__ import annotations

import polars as pl
import pytest

from operators.verify.extract import DEFAULT_RULES, Rule, extract_answer, extract_answers


def extract(text: str, *rules: Rule, pattern: str | None = None) -> str | None:
    table = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    found = table.select(extract_answer(pl.col("text"), rules or DEFAULT_RULES, pattern)).item()
    among_others = pl.Series(["nothing here", text, None, text, "the answer is 77"], dtype=pl.String)
    assert extract_answers(among_others, rules or DEFAULT_RULES, pattern).to_list()[1:4] == [found, None, found]
    return found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{7}", "7"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2+\frac{3}{4}}}}", r"\frac{1}{\sqrt{2+\frac{3}{4}}}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed 5", "5"),
        (r"\fbox{x+1}.", "x+1"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        ("work\n#### 1,234", "1,234"),
        ("#### Step 3: foo\nbar 9", "9"),
        ("The answer is 5.", "5"),
        ("The answer is: **12**.", "12"),
        ("The answer is 3. No: the answer is 4.", "4"),
        (r"The answer is $\frac{1}{2}$, since x", r"\frac{1}{2}"),
        ("the answer is 5, not 6.", "5"),
        ("The answer is that she has 5 apples left.", "5"),
        (r"The answer is \(x^2\).", "x^2"),
        ("The answer is (3, 4).", "(3, 4)"),
        ("A: 26", "26"),
        ("16-3", "3"),
        ("x^2-4", "4"),
        ("it is -4", "-4"),
        ("=-4", "-4"),
        ("1,2345", "2345"),
        ("1,234,567.5 in all", "1,234,567.5"),
        (".5", ".5"),
        (r"half, \frac{1}{2} of it", r"\frac{1}{2}"),
        ("about 3/4", "3/4"),
        ("50% of it", "50%"),
        ("#### 2. Final step\nNothing numeric here.", None),
        ("#### **2. Conclude**\nIt is blue.", None),
        ("#### Step 2\nSo it is blue.", None),
        ("### 3. Conclusion\nThe result is blue", None),
        ("**Step 2:** blue", None),
        ("Case 1. Odd.\nCase 2. Even: nothing.", None),
        ("1. First we look\n2. Then it is blue", None),
        ("1. First we look\n2. Then they are 14", "14"),
        ("## Part 1\nThe total is 12 apples.\n## Part 2\nDone.", "12"),
        ("We have 5 apples.\n\n#### 3. Conclude\nThat's all.", "5"),
        ("We have 5 apples (see step 2).", "5"),
        ("By equation (3) we get twelve.", None),
        ("第2步：蓝色", None),
        ("第2步：得到12个", "12"),
        ("#### 2.1 Solve for x\nIt is 5.", "5"),
        ("#### 3 Conclusion\nWe get 5", "5"),
        ("#### 5 \u2013 Check\nWe have 8.", "8"),
        ("#### 1st step\nWe have 8.", "8"),
        ("#### 2.1 meters", "2.1 meters"),
        ("#### 10 Dollars", "10 Dollars"),
        ("### 42\n", "42"),
        ("The sum:\n12. That is all.", "12"),
        ("In all 1.234.567 people", "1.234.567"),
        ("no idea", None),
        ("", None),
    ],
)
def test_default_rules(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("text", "rules", "answer"),
    [
        ("<answer>\n 42 </answer>", ("tag",), "42"),
        ("a\nthe last line \n", ("last_line",), "the last line"),
        (" whole\ntext ", ("whole",), "whole\ntext"),
        (r"\boxed{1} #### 2", ("hashes", "boxed"), "2"),
    ],
)
def test_other_rules(text: str, rules: tuple[Rule, ...], answer: str) -> None:
    assert extract(text, *rules) == answer


def test_a_tasks_own_pattern_replaces_the_rules() -> None:
    assert extract(r"Option (B), \boxed{9}, option (C)", pattern=r"\(([A-E])\)") == "C"
