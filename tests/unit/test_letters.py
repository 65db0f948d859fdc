"""Which letter a text settles on, in the ways in which models say it."""

# full-width signs are what it is about
# ruff: noqa: RUF001

from __future__ import annotations

import json

import polars as pl
import pytest

from operators.verify.choice import VerifyChoice
from operators.verify.letters import settled

OPTIONS = ("Paris", "Rome", "Oslo", "Bern")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("So I choose B.\n\nA) wrong\nC) wrong", "B"),
        ("The answer is A or B", "?"),
        ("ANSWER: A, B", "?"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{(C)}", "C"),
        ("\\boxed{\\textbf{(D)}\\ 12}", "D"),
        ("The answer is a number between them.", ""),
        ("A good approach is to test each option.\n\nThe answer is C.", "C"),
        ("the correct option is (b)", "B"),
        ("answer: d", "D"),
        ("The answer is **B**.", "B"),
        ("**Answer:** B", "B"),
        ("Answer: $\\mathbf{C}$", "C"),
        ('{"answer": "C", "reason": "A is wrong"}', "C"),
        ("答案是B", "B"),
        ("选择B。", "B"),
        ("正确答案为（B）", "B"),
        ("Antwort: C", "C"),
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("B) x", "B"),
        ("B. Because it is right.\n\nA is wrong since it is small.", "B"),
        ("Option C is the correct answer.", "C"),
        ("A is incorrect, B is correct, C is incorrect.", "B"),
        ("If B is correct then x. But D is correct.", "D"),
        ("I would go with D", "D"),
        ("The best choice is therefore D, since A fails.", "D"),
        ("A) no\nB) no\nC) yes\nD) no", "C"),
        ("A: Paris is big.\nB: Rome is old.", ""),
        ("It is Paris", "A"),
        ("The answer is Paris.", "A"),
        ("The answer is Rome, not Paris.", "B"),
        ("\\boxed{Rome}", "B"),
        ("Thus the answer is (A) Paris.", "A"),
        ("The answer is A) Paris, because B) Rome is wrong", "A"),
        ("I think it's either A or C.", "?"),
        ("Both A and B are correct.", "?"),
        ("The answer is A and B.", "?"),
        ("None of them", ""),
        ("The answer is E", ""),
        ("Final answer: (A)\n\nWhy not B? Because B is wrong.", "A"),
        ("The correct answer is option B: Rome", "B"),
        ("So the answer is A because it is the capital.", "A"),
        ("The answer would be A.", "A"),
        ("My choice: C", "C"),
        ("<answer>B</answer>", "B"),
        ("<answer>\n(b)\n</answer>", "B"),
        ("Let A be a set. The answer is B", "B"),
        ("A", "A"),
        ("A is correct.", "A"),
        ("The answer to this question is C.", "C"),
        ("Answer - C", "C"),
        ("Answer：C", "C"),
        ("ANSWER IS C", "C"),
        ("The answer is: \n\nC", "C"),
        ("Correct: B", "B"),
        ("B is right, not C.", "B"),
        ("Therefore B.", "B"),
        ("So, C is the answer", "C"),
        ("The answer: B or maybe C", "?"),
        ("I choose a different approach. Answer: D", "D"),
        ("respuesta: C", "C"),
        ('The answer is "B".', "B"),
        ("It must be D", "D"),
        ("Option D", "D"),
        ("Hence, option (C).", "C"),
        ("A/B", "?"),
        ("\\boxed{A, B}", "?"),
        ("\\boxed{A\\text{ or }B}", "?"),
        ("The answer is C (12 m/s).", "C"),
        ("The correct answer is C - 12", "C"),
        ("D. All of the above", "D"),
        ("the answer is d) all of the above", "D"),
        ("Answer:\nB", "B"),
        ("Answer: B\nExplanation: The answer is not A.", "B"),
        ("I'm torn between A and B.", ""),
        ("The answer is not A but C.", "C"),
        ("The answer is A?? No, C.", "C"),
        ("All of A, B, C are wrong; hence D", "D"),
        ("The answer is A. Wait, no: it's C.", "C"),
        ("The answer is B. Actually, C.", "C"),
        ("I initially chose A, but it's C.", "C"),
        ("Eliminating A, B, C, we are left with D.", "D"),
        ("The answer isn't A; it's C.", "C"),
        ("The answer is neither A nor B; it is C.", "C"),
        ("B rather than A.", "B"),
        ("Only C works.", "C"),
        ("C works.", "C"),
        ("C fits best.", "C"),
        ("The only option that works is D.", "D"),
        ("The option that fits is D.", "D"),
        ("The letter is C.", "C"),
        ('{"answer": ["C"]}', "C"),
        ("正解はCです。", "C"),
        ("정답은 C입니다.", "C"),
        ("La respuesta correcta es la C.", "C"),
        ("Die Antwort lautet C.", "C"),
        ("La risposta corretta è C.", "C"),
        ("The answer seems to be C.", "C"),
        ("The answer appears to be C.", "C"),
        ("The answer turns out to be C", "C"),
        ("I'm going with C.", "C"),
        ("Let's go with C.", "C"),
        ("C!", "C"),
        ("The answer is a complicated matter.", ""),
        ("The answer is a capital city.", ""),
        ("A number of options are possible.", ""),
        ("A closer look is needed.", ""),
        ("I think I need more information.", ""),
        ("As an AI, I cannot answer.", ""),
        ("The answer is I don't know.", ""),
        ("A or B, I can't tell.", "?"),
        ("Either B or D", "?"),
        ("B or D", "?"),
        ("It could be A or it could be B.", "?"),
        ("Could be C.", "C"),
        ("Probably C.", "C"),
        ("Maybe C?", "C"),
        ("C (I think)", "C"),
        ("C, I think.", "C"),
        ("C, because it is the capital.", "C"),
        ("C because it is the capital.", "C"),
        ("C) Oslo\nD) Bern", ""),
        ("The answer is not Paris but Oslo.", "C"),
        ("Let A = 3, B = 4. Then C = 5.", ""),
        ("The answer is A... no wait, B.", "B"),
        ("A. No, B.", "B"),
        ("The answer is A, no, B.", "B"),
        ("Correct option: C\nIncorrect options: A, B, D", "C"),
        ("The wrong answer is A.", ""),
        ("∴ C", "C"),
        ("=> C", "C"),
        ("The correct answer is <C>.", "C"),
        ("I is the answer", ""),
        ("A is not correct. C is.", "C"),
        ("Is it A? No. Is it B? No. Is it C? Yes!", "C"),
        ("A? No. B? No. C? Yes.", "C"),
        ("D (A and B)", "D"),
        ("So it's D) A and B.", "D"),
        ("The answer is A and B, which is option D.", "D"),
    ],
)
def test_what_a_text_settles_on(text: str, said: str) -> None:
    """``?``: several letters; nothing: none."""
    found = settled(text, "ABCD", OPTIONS)
    assert (found[0] if len(found) == 1 else "?" if found else "") == said


def judged(answer: str | None, texts: list[str], **verification: object) -> pl.DataFrame:
    samples = pl.DataFrame({"sample_index": range(len(texts)), "completion": texts})
    samples = samples.with_columns(problem_key=pl.lit("p"), problem_id=pl.lit("p"), status=pl.lit("ok"))
    problem = {"problem_key": "p", "problem_id": "p", "answer": answer, "verification": json.dumps(verification)}
    problems = pl.DataFrame([problem], schema_overrides={"answer": pl.String})
    return VerifyChoice().run(samples, problems)


def test_several_letters_are_no_answer() -> None:
    found = judged("A", ["Answer: A or B", "Answer: A", "I can't decide."])
    assert found["status"].to_list() == ["unparseable", "ok", "unparseable"]
    assert found["is_correct"].to_list() == [False, True, False]


def test_several_right_letters() -> None:
    texts = ["Answer: A", "Answer: C", "Answer: A, C", "Answer: B"]
    either = judged(None, texts, answers={"any": ["A", "C"]})
    assert either["is_correct"].to_list() == [True, True, False, False]
    both = judged(None, texts, answers={"all": ["A", "C"]})
    assert both["is_correct"].to_list() == [False, False, True, False]
