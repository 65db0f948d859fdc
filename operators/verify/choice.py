"""Multiple choice: which letter did the model settle on?"""

from __future__ import annotations

import json
import re
import string
import time
from typing import Any, ClassVar

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.golds import golds_of
from operators.verify.letters import comparable, settled
from operators.verify.verdicts import SAMPLES, read_answers, verdicts
from schemas.contract import polars_schema
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl


class VerifyChoice(Operator):
    """Compare the letter that a completion settles on with the right one.

    The problem's ``answer`` is a letter, or one of the options' text; ``verification`` may hold ``{"choices": [...]}``
    (the options in order) and ``{"choice": 2}`` (the right one's position, from 0), and several right ones
    (``operators.verify.golds``). Where no letter is found, an option whose text alone is in the last line counts.
    Letters that aren't among the options are no answer, nor are several where one is asked
    (``operators.verify.letters``).
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "messages", "answer", "verification"),
    }
    output = Verdict
    compares = True

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
            is_correct=pl.col("answer").str.split("/").list.contains(pl.col("answer_key")),
            judged_status=pl.lit("ok"),
            detail=pl.lit(None, dtype=polars_schema(Verdict)["detail"]),
        )
        return verdicts(self, rows, judged, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        for row in problems.select("problem_id", "answer", "verification").iter_rows(named=True):
            Options(row, self.letters)

    def _letter(self, text: str, options: Options) -> str | None:
        if self.pattern is not None:
            found = [letter.upper() for letter in re.findall(self.pattern, text) if letter.upper() in options.letters]
            found = found[-1:]
        else:
            found = list(dict.fromkeys(settled(text, options.letters, options.texts)))
        if options.all:
            return "".join(sorted(found)) or None
        return found[0] if len(found) == 1 else None


class Options:
    """The options of one problem."""

    def __init__(self, row: dict[str, Any], letters: str) -> None:
        given: dict[str, Any] = json.loads(row["verification"] or "{}")
        self.texts = [str(text) for text in given.get("choices") or ()]
        self.letters = string.ascii_uppercase[: len(self.texts)] if self.texts else letters
        golds = golds_of(row)
        self.all = bool(golds.all)
        """Whether several options are right together, and all of them are asked."""
        name = str(row["problem_id"])
        if given.get("choice") is not None:
            found = [self._right(None, given["choice"], name)]
        else:
            found = [self._right(text, None, name) for text in (golds.any or [member[0] for member in golds.all])]
        self.right = ("" if self.all else "/").join(sorted({letter for letter in found if letter})) or None
        """The right letter; ``A/C`` where either is right, ``AC`` where both are asked."""

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
        said = [comparable(text) for text in self.texts]
        if comparable(answer) in said:
            return self.letters[said.index(comparable(answer))]
        raise BadInput(
            f"problem '{problem_id}': its answer '{answer[:80]}' is neither a letter of {self.letters[0]}-"
            f"{self.letters[-1]} nor one of its {len(self.texts)} options"
        )
