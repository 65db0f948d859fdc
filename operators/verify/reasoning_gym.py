"""reasoning_gym tasks, judged by the package's own scorers, with partial credit.

A problem carries its task and entry in ``verification`` (``load`` puts it there). Scorers are code over what a model
wrote, so they run in killable workers, once per distinct (problem, answer).
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.extract import Rule
from operators.verify.verdicts import SAMPLES, join_answers, predicted, verdicts
from operators.workers import TimedOut, WorkerFailed, WorkerPool
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl


class VerifyReasoningGym(Operator):
    """Score the extracted answer with the scorer of the problem's reasoning_gym task."""

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "messages", "answer", "verification"),
    }
    output = Verdict
    compares = True
    tools = ("workers",)

    extract: tuple[Rule, ...] = ("tag", "boxed", "hashes", "phrase", "whole")
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""
    threshold: float = Field(default=0.999, gt=0.0, le=1.0)
    """The credit from which an answer counts as correct."""
    timeout: float = Field(default=10.0, gt=0.0)
    """Seconds that scoring an answer may take."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, workers: WorkerPool) -> pl.DataFrame:
        from operators.verify.canonical import cheap_key  # reads answers, which takes a while to import
        from operators.verify.reading.writing import text_key

        began = time.perf_counter()
        samples = answers_only(samples, problems)
        # entries, not texts, say what is right: the verification column takes the place of the expected answer
        entries = problems.select("problem_key", answer=pl.col("verification"))
        found = predicted(samples, entries, self.extract, self.pattern)
        answers = found["predicted_answer"].drop_nulls().unique().to_list()
        keys = [cheap_key(answer) or text_key(answer) for answer in answers]
        table = pl.DataFrame(
            {"predicted_answer": answers, "answer_key": keys},
            schema={"predicted_answer": pl.String, "answer_key": pl.String},
        )
        found = join_answers(found, table.with_columns(key_status=pl.lit("ok")))
        return verdicts(self, found, self._judge(found, workers), time.perf_counter() - began)

    def _judge(self, found: pl.DataFrame, workers: WorkerPool) -> pl.DataFrame:
        pairs = found.filter(pl.col("answer").is_not_null() & pl.col("answer_key").is_not_null())
        pairs = pairs.group_by("answer", "answer_key", maintain_order=True).first()
        calls = pairs.select("answer", "predicted_answer").rows()
        credits: list[float | None] = []
        statuses: list[str] = []
        details: list[str | None] = []
        for result in workers.map(score_entry, calls, self.timeout):
            failed = isinstance(result, TimedOut | WorkerFailed)
            credits.append(None if failed else min(1.0, max(0.0, float(result))))
            statuses.append("timeout" if isinstance(result, TimedOut) else "error" if failed else "ok")
            details.append(result.message if isinstance(result, WorkerFailed) else None)
        schema = {"credit": pl.Float64, "judged_status": pl.String, "detail": pl.String}
        judged = pl.DataFrame({"credit": credits, "judged_status": statuses, "detail": details}, schema=schema)
        return (
            pairs.select("answer", "answer_key")
            .with_columns(judged)
            .with_columns(is_correct=pl.col("credit") >= self.threshold)
        )


@cache
def _scorer(task: str) -> Any:
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(task)


def score_entry(verification: str, answer: str) -> float:
    """Return the credit, 0 to 1, of an answer to a problem's ``verification`` JSON. Call it in a worker process."""
    about = json.loads(verification).get("reasoning_gym")
    if not about:
        raise BadInput("the problem's verification has no 'reasoning_gym' entry; load it from reasoning_gym:TASK")
    return float(_scorer(about["task"])(answer=answer, entry=about["entry"]))
