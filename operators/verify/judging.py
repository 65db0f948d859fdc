"""How mathematical answers are judged: each distinct answer is read once, each distinct pair compared once.

Plain numbers never reach the computer algebra system; what does runs in processes that are killed when they don't
return.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from operators.verify.golds import Golds, golds_of
from operators.verify.reading.asks import Asks, asks_of
from operators.verify.reading.compare import Formula, Judge, Tolerance
from operators.verify.reading.keys import key_of
from operators.verify.reading.matching import any_of
from operators.verify.reading.reader import read
from operators.verify.reading.symbolic import Value, formula_value, formulas_agree
from operators.verify.reading.tree import Reading, leaves
from operators.verify.reading.writing import text_key
from operators.verify.regions import region_value, regions_agree
from operators.workers import TimedOut, WorkerFailed, WorkerPool
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


def task_of(problem: dict[str, Any]) -> Task:
    """Return what a problem's answers are judged by: its golds, and what its question asks for."""
    turns: list[dict[str, Any]] = problem.get("messages") or []
    asked = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), None)
    return Task(golds_of(problem), asks_of(asked or problem.get("prompt")))


class Work:
    """What one call knows so far, and the processes that find out the rest."""

    def __init__(self, workers: WorkerPool, timeout: float, float_rounding: int) -> None:
        self.workers, self.timeout, self.float_rounding = workers, timeout, float_rounding
        self.judge = Judge({}, float_rounding)
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
            results = self.workers.map(function, [(text,) for _, text in mine], self.timeout)
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
            calls = [(gold[1], answer[1], self.float_rounding) for gold, answer in mine]
            for pair, result in zip(mine, self.workers.map(function, calls, self.timeout), strict=True):
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
