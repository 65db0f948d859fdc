"""A function of one's own as verifier: ``check(completion, answer, problem)``.

    def check(completion, answer, problem):
        return completion.strip().endswith(answer)

It may give a truth value; a score from 0 to 1; or a pair of a key and one of these, where samples with equal keys have
given the same answer (what a vote counts). None says that there is no answer in the completion.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.sandbox import Limits, Mounts, Sandbox
from operators.thinking import answers_only
from operators.verify.canonical import cheap_key
from operators.verify.extract import DEFAULT_RULES
from operators.verify.own_function import Arguments, arguments, call, find, job, mounts_of, outcome_of, source_of
from operators.verify.reading.writing import text_key
from operators.verify.verdicts import SAMPLES, predicted
from operators.workers import TimedOut, WorkerFailed, WorkerPool
from schemas.contract import complete
from schemas.conversation import described, spoken
from schemas.datasets import Problem, Verdict
from schemas.identity import digest
from schemas.later import pl
from schemas.unicode import whole

TEXT = ["problem_key", "completion"]


class VerifyFunction(Operator):
    """Judge each distinct completion of a problem with a function of one's own.

    It is given what it takes of ``completion`` (without its thinking), ``answer`` and ``problem`` (a dictionary:
    problem_id, prompt, messages, tools, answer, task_type, and verification and metadata as dictionaries). It runs in
    processes that are killed at ``timeout``; one that is, or that raises, has said neither right nor wrong (status
    ``timeout``, ``error``). A score is the ``credit``, right from ``threshold`` on. Without a key, the key is that of
    the answer that ``verify.math`` would look for in the text. Another text of the function makes new verdicts; where
    it relies on more than its own text, count ``revision`` up.
    """

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {"samples": SAMPLES, "problems": Problem.select()}
    output = Verdict

    function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]
    """``package.module:check``."""
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    """The score from which an answer counts as right."""
    timeout: float = Field(default=10.0, gt=0.0)
    """Seconds that one call may take."""
    thinking: bool = False
    """Pass it completions with their thinking."""
    revision: int = 0
    """Raise it when something that the function relies on has changed: verdicts are then made anew."""
    sandbox: bool = False
    """Run it in the sandbox, for a function that runs what a model wrote. It then sees its own module or package,
    Python's library, and what ``packages`` and ``paths`` name."""
    packages: tuple[str, ...] = ()
    """Installed packages that it imports, in the sandbox."""
    paths: tuple[str, ...] = ()
    """Files and folders that it reads, or finds modules in, in the sandbox."""
    limits: Limits = Limits()
    """What the function may use where it runs in the sandbox; ``timeout`` takes the place of its seconds."""

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("sandbox",) if self.sandbox else ("workers",)

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "source": digest(source_of(self.function))}

    def check_problems(self, problems: pl.DataFrame) -> None:
        """See that the function is there and takes what it is given, before anything is sampled."""
        arguments(find(self.function), self.function, "", None, {})

    def run(
        self,
        samples: pl.DataFrame,
        problems: pl.DataFrame,
        workers: WorkerPool | None = None,
        sandbox: Sandbox | None = None,
    ) -> pl.DataFrame:
        began = time.perf_counter()
        judged = samples if self.thinking else answers_only(samples, problems)
        asked = judged.filter(pl.col("status") == "ok").select(TEXT).unique(maintain_order=True)
        about = {row["problem_key"]: as_given(row) for row in problems.iter_rows(named=True)}
        function = find(self.function)
        calls = [
            arguments(function, self.function, text, about[key]["answer"], about[key])
            for key, text in asked.iter_rows()
        ]
        results = self._in_workers(calls, workers) if sandbox is None else self._in_sandbox(calls, sandbox)
        told = pl.DataFrame([self._told(result) for result in results], schema=_told_schema(), orient="row")
        rows = predicted(judged, problems.select("problem_key"), DEFAULT_RULES)
        rows = rows.join(pl.concat([asked, told], how="horizontal"), on=TEXT, how="left", maintain_order="left")
        rows = self._with_keys(rows)
        rows = rows.with_columns(
            verifier=pl.lit(self.public_name()),
            status=pl.when(pl.col("status") != "ok").then(pl.lit("skipped")).otherwise("judged"),
            seconds=pl.lit((time.perf_counter() - began) / max(1, len(rows)), dtype=pl.Float32),
        )
        return complete(rows, Verdict)

    def _with_keys(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Put the keys: the function's own, else that of the answer in the text."""
        answers = rows["predicted_answer"].drop_nulls().unique().to_list()
        keys = {answer: cheap_key(answer) or text_key(answer) for answer in answers}
        found = pl.col("predicted_answer").replace_strict(keys, default=None, return_dtype=pl.String)
        return rows.with_columns(
            predicted_answer=pl.coalesce("own_key", "predicted_answer"), answer_key=pl.coalesce("own_key", found)
        )

    def _in_workers(self, calls: Sequence[Arguments], workers: WorkerPool | None) -> list[Any]:
        assert workers is not None
        path = [place or os.getcwd() for place in sys.path]
        return workers.map(call, [(self.function, path, *given) for given in calls], self.timeout)

    def _in_sandbox(self, calls: Sequence[Arguments], sandbox: Sandbox) -> list[Any]:
        jobs = [job(self.function, given, self.paths) for given in calls]
        limits = self.limits.model_copy(update={"seconds": self.timeout})
        mounts = Mounts(self.packages, (*mounts_of(self.function), *self.paths))
        return [outcome_of(outcome) for outcome in sandbox.run(jobs, limits, mounts)]

    def _told(self, result: Any) -> tuple[str | None, float | None, bool | None, str, str | None]:
        """Return (key, credit, is_correct, status, detail) of what one call gave."""
        if isinstance(result, TimedOut):
            return None, None, None, "timeout", f"the function took longer than {self.timeout:g} s"
        if isinstance(result, WorkerFailed):
            return None, None, None, "error", result.message
        key, value = result
        key = key if key is None else whole(key)
        if value is None:
            return key, 0.0, False, "unparseable", None
        if not 0.0 <= value <= 1.0:
            return key, None, None, "error", f"{self.function} gave {value:g}; a score is from 0 to 1"
        return key, float(value), value >= self.threshold if not isinstance(value, bool) else value, "ok", None


def _told_schema() -> dict[str, Any]:
    """Return the dtypes of its columns."""
    return {
        "own_key": pl.String,
        "credit": pl.Float64,
        "is_correct": pl.Boolean,
        "judged": pl.String,
        "detail": pl.String,
    }


def as_given(row: dict[str, Any]) -> dict[str, Any]:
    """Return a problem as functions are given it."""
    return {
        "problem_id": row["problem_id"],
        "prompt": row["prompt"],
        "messages": spoken(row["messages"]),
        "tools": described(row["tools"]),
        "answer": row["answer"],
        "task_type": row["task_type"],
        "verification": json.loads(row["verification"] or "{}"),
        "metadata": json.loads(row["metadata"] or "{}"),
    }
