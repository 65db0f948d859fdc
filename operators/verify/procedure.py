"""Procedures: is every step of what the model did right? (ProcBench: Fujisawa et al. 2024)"""

from __future__ import annotations

import json
import re
import time
from typing import Any, ClassVar, cast

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.verdicts import SAMPLES, read_answers, verdicts
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl

_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_NUMBERED = re.compile(r"(?im)^\s*(?:step\s*)?\d+\s*[).:]\s*(.*\S)\s*$")


class VerifyProcedure(Operator):
    """Compare the steps of a completion with the problem's, in order.

    ``credit`` is the prefix accuracy of ProcBench: the length of the longest common prefix over the longer of the two
    lists; right is what matches wholly. Steps are the last JSON list in a completion, else its numbered lines ("1. ..."
    or "Step 1: ..."), else all its lines. The right ones are the list ``steps`` in ``verification``, or the ``answer``,
    read likewise.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "messages", "answer", "verification"),
    }
    output = Verdict

    ignore_case: bool = True
    """Upper and lower case are the same."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        golds = {row["problem_key"]: self.gold(row) for row in problems.iter_rows(named=True)}
        texts = samples.filter(pl.col("status") == "ok").select("completion").unique(maintain_order=True)
        found = [self._written(read_steps(text)) for text in texts["completion"]]  # once for each distinct text
        texts = texts.with_columns(predicted_answer=pl.Series(found, dtype=pl.String))
        rows = read_answers(samples, texts, golds)
        pairs = rows.select("answer", "answer_key").drop_nulls().unique(maintain_order=True)
        shares = [prefix_share(json.loads(key), json.loads(gold)) for gold, key in pairs.iter_rows()]
        lengths = [f"{common} of {longer} steps" for common, longer in shares]
        judged = pairs.with_columns(
            credit=pl.Series([common / longer for common, longer in shares], dtype=pl.Float64),
            detail=pl.Series(lengths, dtype=pl.String),
            judged_status=pl.lit("ok"),
        ).with_columns(is_correct=pl.col("credit") == 1.0)
        return verdicts(self, rows, judged, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        for row in problems.select("problem_id", "answer", "verification").iter_rows(named=True):
            self.gold(row)

    def gold(self, row: dict[str, Any]) -> str | None:
        steps = json.loads(row["verification"] or "{}").get("steps")
        if steps is None and row["answer"] is None:
            return None
        if steps is not None and not isinstance(steps, list):
            raise BadInput(f"problem '{row['problem_id']}': verification.steps must be a list")
        written = self._written(cast("list[Any] | None", steps) if steps is not None else read_steps(row["answer"]))
        if written is None:
            raise BadInput(f"problem '{row['problem_id']}': it has no steps to compare with")
        return written

    def _written(self, steps: list[Any] | None) -> str | None:
        """Return steps as one canonical text, null where there are none."""
        if not steps:
            return None
        texts = [step if isinstance(step, str) else json.dumps(step, sort_keys=True) for step in steps]
        texts = [" ".join(text.split()) for text in texts]
        return json.dumps([text.casefold() if self.ignore_case else text for text in texts], ensure_ascii=False)


def read_steps(text: str) -> list[Any] | None:
    """Return the steps in a text, None where there are none."""
    blocks: list[str] = _FENCED.findall(text)
    for part in (*reversed(blocks), text):
        found = _last_list(part)
        if found is not None:
            return found
    numbered: list[Any] = _NUMBERED.findall(text)
    return numbered or [line.strip() for line in text.splitlines() if line.strip()] or None


def _last_list(text: str) -> list[Any] | None:
    """Return the last JSON list in a text that isn't part of another."""
    decoder, at, last = json.JSONDecoder(), text.find("["), None
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            at = text.find("[", at + 1)
            continue
        if isinstance(value, list) and value:
            last = cast("list[Any]", value)
        at = text.find("[", end)
    return last


def prefix_share(found: list[str], expected: list[str]) -> tuple[int, int]:
    """Return (length of the longest common prefix, length of the longer list)."""
    common = 0
    for one, other in zip(found, expected, strict=False):
        if one != other:
            break
        common += 1
    return common, max(len(found), len(expected))
