"""Mathematical answers: what one side leaves out is no difference, what both say must agree.

An answer is extracted from each completion and read (``operators.verify.reading``), each *distinct* answer once; those
of equal meaning have one canonical key, and each distinct (problem, key) is judged once: 10,000 samples with 150
distinct answers cost 150 comparisons. Plain numbers never reach the computer algebra system; what does runs in
processes that are killed when they don't return.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.extract import DEFAULT_RULES, QUANTITY, Rule
from operators.verify.golds import check_golds
from operators.verify.verdicts import SAMPLES, predicted, verdicts
from schemas.datasets import Problem, Verdict
from schemas.later import pl

if TYPE_CHECKING:
    from operators.workers import WorkerPool


class VerifyMath(Operator):
    """Compare the extracted answer with the problem's, numerically and symbolically.

    Several golds are in ``verification.answers``, a tolerance in ``verification.math.tolerance`` (see
    ``operators.verify.golds``). Statuses: ``unparseable`` (no answer found, or a formula with a remainder that can't be
    read: wrong), ``timeout`` (killed: neither right nor wrong), ``error`` (the comparison raised), ``skipped`` (the
    sample itself failed). A problem without an answer gives keys and no judgement.
    """

    version: ClassVar[int] = 3
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "prompt", "messages", "answer", "verification"),
    }
    output = Verdict
    compares = True
    tools = ("workers",)

    extract: tuple[Rule, ...] = DEFAULT_RULES
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""
    timeout: float = Field(default=5.0, gt=0.0)
    """Seconds a single parse or comparison may take."""
    float_rounding: int = Field(default=6, ge=1)
    """Decimals, and significant digits, to which inexact numbers are compared."""

    def check_problems(self, problems: pl.DataFrame) -> None:
        check_golds(problems)

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, workers: WorkerPool) -> pl.DataFrame:
        from operators.verify.judging import Work, task_of  # reading answers takes half a command's time to import

        began = time.perf_counter()
        samples = answers_only(samples, problems)
        asked = problems.join(samples.select("problem_key").unique(), on="problem_key", how="semi")
        tasks = {row["problem_key"]: task_of(row) for row in asked.iter_rows(named=True)}
        by_name = {task.name: task for task in tasks.values() if task.name is not None}
        asks = list(dict.fromkeys(task.asks for task in tasks.values()))
        number = {one: index for index, one in enumerate(asks)}
        about = pl.DataFrame(
            [(key, task.name, number[task.asks]) for key, task in tasks.items()],
            schema={"problem_key": pl.String, "answer": pl.String, "asks": pl.Int64},
            orient="row",
        )
        found = predicted(samples, about, self.extract, self.pattern, QUANTITY)
        distinct = found.filter(pl.col("predicted_answer").is_not_null()).select("predicted_answer", "asks").unique()
        work = Work(workers, self.timeout, self.float_rounding)
        keys = work.keys(distinct, asks)
        found = found.join(keys, on=["predicted_answer", "asks"], how="left", maintain_order="left")
        usable = pl.col("answer").is_not_null() & pl.col("answer_key").is_not_null()
        # keys are canonical, so one writing of each stands for all of them
        pairs = found.filter(usable).group_by("answer", "answer_key", maintain_order=True).first()
        return verdicts(self, found, work.judged(pairs, by_name), time.perf_counter() - began)
