"""Multiple choice: which letter did the model settle on?"""

from __future__ import annotations

import json
import re
import string
import time
from typing import Any, ClassVar

import polars as pl

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.verdicts import SAMPLES, read_answers, verdicts
from schemas.contract import polars_schema
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput

_LETTER = r"\(?\**\(?\s*([A-Z])\b\s*\)?"
_RULES = (
    r"\\boxed\s*\{\s*(?:\\text\s*\{|\\textbf\s*\{)?\s*\(?([A-Z])\)?\b",
    r"<answer>\s*\(?([A-Z])\b",
    rf"(?i:answer|choice|option)(?i:\s+(?:is|would\s+be|must\s+be)|\s*[:=])+\s*(?i:option\s+|choice\s+)?[\s:*\"'$\\{{]*{_LETTER}",
    r"(?m)^\s*\(?\**([A-Z])\**(?:[).:]|\s*$)",  # a line that begins with, or is, a letter of the list
    r"\(([A-Z])\)",
)
"""In order; of a rule's matches the last counts, because models restate and correct themselves."""


class VerifyChoice(Operator):
    """Compare the letter that a completion settles on with the right one.

    The problem's ``answer`` is a letter, or one of the options' text; ``verification`` may hold ``{"choices": [...]}``
    (the options in order) and ``{"choice": 2}`` (the right one's position, from 0). Where no letter is found, an option
    whose text alone is in the last line counts. Letters that aren't among the options are no answer.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "messages", "answer", "verification"),
    }
    output = Verdict

    letters: str = string.ascii_uppercase[:10]
    """The letters that options can have, where the problem doesn't list its options."""
    pattern: str | None = None
    """A regular expression with one group, instead of the rules."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        about = {row["problem_key"]: Options(row, self.letters) for row in problems.iter_rows(named=True)}
        texts = samples.filter(pl.col("status") == "ok").select("problem_key", "completion").unique(maintain_order=True)
        # a loop over distinct completions: the options differ from problem to problem
        found = [self._letter(text, about[key]) for key, text in texts.iter_rows()]
        texts = texts.with_columns(predicted_answer=pl.Series(found, dtype=pl.String))
        rows = read_answers(samples, texts, {key: options.right for key, options in about.items()})
        judged = rows.select("answer", "answer_key").drop_nulls().unique()
        judged = judged.with_columns(
            is_correct=pl.col("answer") == pl.col("answer_key"),
            judged_status=pl.lit("ok"),
            detail=pl.lit(None, dtype=polars_schema(Verdict)["detail"]),
        )
        return verdicts(self, rows, judged, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        for row in problems.select("problem_id", "answer", "verification").iter_rows(named=True):
            Options(row, self.letters)

    def _letter(self, text: str, options: Options) -> str | None:
        for rule in (self.pattern,) if self.pattern is not None else _RULES:
            letters = [letter for letter in re.findall(rule, text) if letter.upper() in options.letters]
            if letters:
                return letters[-1].upper()
        return None if self.pattern is not None else options.named_in(text)


class Options:
    """The options of one problem."""

    def __init__(self, row: dict[str, Any], letters: str) -> None:
        given: dict[str, Any] = json.loads(row["verification"] or "{}")
        self.texts = [_plain(str(text)) for text in given.get("choices") or ()]
        self.letters = string.ascii_uppercase[: len(self.texts)] if self.texts else letters
        self.right = self._right(row["answer"], given.get("choice"), str(row["problem_id"]))

    def _right(self, answer: str | None, position: int | None, problem_id: str) -> str | None:
        if position is not None:
            if not 0 <= position < len(self.letters):
                raise BadInput(f"problem '{problem_id}': verification.choice is {position}, but there are "
                               f"{len(self.letters)} options")  # fmt: skip
            return self.letters[position]
        if answer is None:
            return None
        letter = re.fullmatch(r"\(?([A-Za-z])\)?[.:]?", answer.strip())
        if letter and letter[1].upper() in self.letters:
            return letter[1].upper()
        if _plain(answer) in self.texts:
            return self.letters[self.texts.index(_plain(answer))]
        raise BadInput(
            f"problem '{problem_id}': its answer '{answer[:80]}' is neither a letter of {self.letters[0]}-"
            f"{self.letters[-1]} nor one of its {len(self.texts)} options"
        )

    def named_in(self, text: str) -> str | None:
        """Return the one option whose text is in the last line, None where there are several or none."""
        lines = _plain(text.strip()).splitlines()
        found = [
            letter
            for letter, option in zip(self.letters, self.texts, strict=False)
            if lines and option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", lines[-1])
        ]
        return found[0] if len(found) == 1 else None


def _plain(text: str) -> str:
    return re.sub(r"[ \t]+", " ", text.strip().strip(".").casefold())
