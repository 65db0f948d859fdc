"""Mathematical answers: what one side leaves out is no difference, what both say must agree.

An answer is extracted from each completion and read (``operators.verify.reading``), each *distinct* answer once; those
of equal meaning have one canonical key, and each distinct (problem, key) is judged once: 10,000 samples with 150
distinct answers cost 150 comparisons. Plain numbers never reach the computer algebra system; what does runs in
processes that are killed when they don't return.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.extract import DEFAULT_RULES, QUANTITY, Rule
from operators.verify.golds import Golds, check_golds, golds_of
from operators.verify.reading.asks import Asks, asks_of
from operators.verify.reading.compare import Formula, Judge, Tolerance
from operators.verify.reading.keys import key_of
from operators.verify.reading.matching import any_of
from operators.verify.reading.reader import read
from operators.verify.reading.symbolic import Value, formula_value, formulas_agree
from operators.verify.reading.tree import Reading, leaves
from operators.verify.reading.writing import text_key
from operators.verify.regions import region_value, regions_agree
from operators.verify.verdicts import SAMPLES, predicted, verdicts
from operators.workers import TimedOut, WorkerFailed, WorkerPool
from schemas.datasets import Problem, Verdict
from schemas.later import pl


@dataclass(frozen=True)
class Task:
    """What problems with equal golds and equal questions share."""

    golds: Golds
    asks: Asks

    @property
    def name(self) -> str | None:
        """A text that tells tasks apart; None where nothing is expected."""
        return repr((self.golds, self.asks)) if self.golds.known else None


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
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        asked = problems.join(samples.select("problem_key").unique(), on="problem_key", how="semi")
        tasks = {row["problem_key"]: Task(golds_of(row), _asks(row)) for row in asked.iter_rows(named=True)}
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
        work = _Work(self, workers)
        keys = work.keys(distinct, asks)
        found = found.join(keys, on=["predicted_answer", "asks"], how="left", maintain_order="left")
        usable = pl.col("answer").is_not_null() & pl.col("answer_key").is_not_null()
        # keys are canonical, so one writing of each stands for all of them
        pairs = found.filter(usable).group_by("answer", "answer_key", maintain_order=True).first()
        return verdicts(self, found, work.judged(pairs, by_name), time.perf_counter() - began)


def _asks(problem: dict[str, Any]) -> Asks:
    turns: list[dict[str, Any]] = problem.get("messages") or []
    asked = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), None)
    return asks_of(asked or problem.get("prompt"))


class _Work:
    """What one call knows so far, and the processes that find out the rest."""

    def __init__(self, operator: VerifyMath, workers: WorkerPool) -> None:
        self.operator, self.workers = operator, workers
        self.judge = Judge({}, operator.float_rounding)
        self.late: set[Any] = set()
        """Formulas, and pairs of them, that algebra didn't return from."""
        self.failed: dict[Any, str] = {}

    def keys(self, distinct: pl.DataFrame, asks: Sequence[Asks]) -> pl.DataFrame:
        """Return predicted_answer, asks -> answer_key, key_status for each distinct answer."""
        rows: list[tuple[str, int]] = list(distinct.iter_rows())
        readings = [read(answer, asks[number].time) for answer, number in rows]
        self.evaluate(readings)
        keys: list[str] = []
        statuses: list[str] = []
        for (answer, number), reading in zip(rows, readings, strict=True):
            key = key_of(reading, self.judge.values, asks[number])
            keys.append(key if len(key) <= 1000 else text_key(answer))
            statuses.append(self._status(reading))
        return distinct.with_columns(
            answer_key=pl.Series(keys, dtype=pl.String), key_status=pl.Series(statuses, dtype=pl.String)
        )

    def _status(self, reading: Reading) -> str:
        formulas = list(_formulas([reading]))
        if any(formula in self.late for formula in formulas):
            return "timeout"
        unreadable = any(not self.judge.values[formula].readable for formula in formulas)
        return "unparseable" if unreadable or any(leaf.kind == "text" for leaf in leaves(reading)) else "ok"

    def evaluate(self, readings: Iterable[Reading]) -> None:
        """Find the values of all formulas in readings that aren't known."""
        values = self.judge.values
        unknown = [formula for formula in dict.fromkeys(_formulas(readings)) if formula not in values]
        for kind, function in (("formula", formula_value), ("region", region_value)):
            mine = [formula for formula in unknown if formula[0] == kind]
            results = self.workers.map(function, [(text,) for _, text in mine], self.operator.timeout)
            for formula, result in zip(mine, results, strict=True):
                if isinstance(result, TimedOut | WorkerFailed):
                    # as text it still groups with its equals; only a parse that hung says so
                    values[formula] = Value(text_key(formula[1]))
                    if isinstance(result, TimedOut):
                        self.late.add(formula)
                else:
                    values[formula] = result

    def judged(self, pairs: pl.DataFrame, tasks: dict[str, Task]) -> pl.DataFrame:
        """Return (answer, answer_key) -> is_correct, judged_status, detail for each distinct pair."""
        names, keys, texts = (pairs[name].to_list() for name in ("answer", "answer_key", "predicted_answer"))
        chosen = [tasks[name] for name in names]
        self.evaluate(read(text, task.asks.time) for task in tasks.values() for text in task.golds.texts())
        results: list[bool | None] = [None] * len(chosen)
        while True:
            self.judge.wanted.clear()
            for index, known in enumerate(results):
                if known is None:
                    results[index] = self._agrees(chosen[index], texts[index])
            if not self._ask():
                break
        statuses: list[str] = pairs["key_status"].to_list()
        details: list[str | None] = [None] * len(results)
        for index, result in enumerate(results):
            if result:
                statuses[index] = "ok"  # the same text, whatever it means
            elif result is None:
                statuses[index], details[index] = self._unknown(chosen[index], texts[index])
        schema = {
            "answer": pl.String, "answer_key": pl.String, "is_correct": pl.Boolean, "judged_status": pl.String,
            "detail": pl.String,
        }  # fmt: skip
        return pl.DataFrame(
            {"answer": names, "answer_key": keys, "is_correct": results, "judged_status": statuses, "detail": details},
            schema=schema,
        )

    def _agrees(self, task: Task, text: str) -> bool | None:
        """Return whether an answer is right; None where that hangs on algebra that wasn't done or didn't return."""
        golds, asks = task.golds, task.asks
        if any(text_key(text) == text_key(gold) for gold in golds.any):
            return True
        answer = read(text, asks.time)
        if self._is_late([answer]):
            return None
        tolerances = [Tolerance(*map(Fraction, tolerance)) for tolerance in golds.tolerances]
        if golds.all:
            expected = [[read(gold, asks.time) for gold in member] for member in golds.all]
            return self.judge.agree_all(expected, answer, asks, tolerances)
        # a gold is read once: one that hangs costs one limit, not one for each answer
        expected = [read(gold, asks.time) for gold in golds.any]
        tolerance = tolerances[0] if tolerances else None
        return any_of(
            None if self._is_late([gold]) else self.judge.agree(gold, answer, asks, tolerance) for gold in expected
        )

    def _is_late(self, readings: Iterable[Reading]) -> bool:
        return bool(self.late) and any(formula in self.late for formula in _formulas(readings))

    def _ask(self) -> bool:
        """Compare the pairs of formulas that are wanted; return whether something new is known."""
        todo = [pair for pair in self.judge.wanted if pair not in self.late and pair not in self.failed]
        for function, mine in (
            (formulas_agree, [pair for pair in todo if pair[0][0] == pair[1][0] == "formula"]),
            (regions_agree, [pair for pair in todo if "region" in (pair[0][0], pair[1][0])]),
        ):
            calls = [(gold[1], answer[1], self.operator.float_rounding) for gold, answer in mine]
            for pair, result in zip(mine, self.workers.map(function, calls, self.operator.timeout), strict=True):
                if isinstance(result, TimedOut):
                    self.late.add(pair)
                elif isinstance(result, WorkerFailed):
                    self.failed[pair] = result.message
                else:
                    self.judge.same[pair] = result
        return bool(todo)

    def _unknown(self, task: Task, text: str) -> tuple[str, str | None]:
        """Return the status and detail of an answer of which nobody knows whether it is right."""
        if self._is_late(read(gold, task.asks.time) for gold in task.golds.texts()):
            return "timeout", "the expected answer can't be read in time"
        self.judge.wanted.clear()
        self._agrees(task, text)
        message = next((self.failed[pair] for pair in self.judge.wanted if pair in self.failed), None)
        return ("timeout", None) if message is None else ("error", message)


def _formulas(readings: Iterable[Reading]) -> Iterable[Formula]:
    """Yield what is left to algebra in readings."""
    for reading in readings:
        for leaf in leaves(reading):
            if leaf.kind in ("formula", "region") and leaf.number is None:
                yield leaf.kind, leaf.text
