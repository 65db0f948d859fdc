"""Does what was tuned hold on problems that it wasn't tuned on? Asked again and again, without wearing them out."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from operators.draws import draws
from operators.load.held_out import held_out
from operators.measure.counts import count_verdicts
from operators.numeric.thresholdout import Thresholdout
from operators.piecewise import PiecewiseOperator
from schemas.contract import polars_schema
from schemas.datasets import Answer, Verdict
from schemas.errors import BadInput
from schemas.identity import digest
from schemas.later import Floats, pl
from schemas.measures import HoldoutAnswer


def _partial() -> dict[str, Any]:
    """Return the columns of a question's values and, in other rows, of earlier questions."""
    return {
        **{"problem_key": pl.String(), "name": pl.String(), "value": pl.Float64()},
        **{"number": pl.Int64(), "question": pl.String(), "answer": pl.Float64(), "status": pl.String()},
    }


class MeasureHoldout(PiecewiseOperator):
    """Ask held-out problems whether a mean that was seen on the others holds (``operators.numeric.thresholdout``).

    Each method of ``answers`` is a question (the share of its answers that are right), and so is each verifier of
    ``verdicts`` (the mean over problems of the share of right samples). With a ``baseline`` the question is by how much
    a method beats it, problem by problem, and tolerance and bound are on the scale of that difference.

    The answer is the mean of the problems that were tuned on where it ``holds``, and the held-out problems' own, with
    noise, where it ``differs``, which takes one of ``budget``. Once they are gone there are no more answers: only new
    problems help then. ``asked`` are the questions before these; ``gristmill holdout`` keeps them in the root.
    """

    version: ClassVar[int] = 1
    inputs = {
        "answers": Answer.select("problem_key", "method", "is_correct"),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status", "chosen"),
        "asked": HoldoutAnswer.select(),
    }
    optional = frozenset({"answers", "verdicts", "asked"})
    output = HoldoutAnswer

    holdout: float = Field(default=0.2, gt=0.0, lt=1.0)
    """The share of problems that are held out, as ``load.holdout`` says it."""
    methods: str = ""
    """Ask only for names that match this regular expression."""
    baseline: str = ""
    """The method that others are compared with; empty: each is asked about by itself."""
    tolerance: float = Field(default=0.08, gt=0.0, lt=1.0)
    """A gap that doesn't matter."""
    budget: Annotated[int, Field(ge=1)] = 10
    """Answers that may come from the held-out problems themselves."""
    questions: Annotated[int, Field(ge=1)] = 1000
    """How many are asked altogether, at most."""
    risk: float = Field(default=0.05, gt=0.0, lt=1.0)
    """That some answer is off by more than the bound."""
    seed: int = 0
    """Of the noise: the same questions have the same answers."""

    @field_validator("methods")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is no regular expression: {error}") from error
        return value

    def partial(
        self,
        answers: pl.DataFrame | None = None,
        verdicts: pl.DataFrame | None = None,
        asked: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return problem_key, name and value in [0, 1] of each problem and method; or, as they are, earlier questions.

        Raises:
            BadInput: nothing is asked.
        """
        found = [pl.DataFrame(schema=_partial())]
        if answers is not None:
            known = answers.filter(pl.col("is_correct").is_not_null())
            found.append(known.select("problem_key", name="method", value=pl.col("is_correct").cast(pl.Float64)))
        if verdicts is not None:
            for (verifier,), rows in draws(verdicts).group_by("verifier"):
                counts = count_verdicts(rows).filter(pl.col("n") > 0)
                value = pl.col("c") / pl.col("n")
                found.append(counts.select(problem_key="problem_id", name=pl.lit(str(verifier)), value=value))
        if asked is not None:
            found.append(asked.select("number", "question", "answer", "status"))
        if len(found) == 1:
            raise BadInput("measure.holdout needs 'answers' or 'verdicts'")
        return pl.concat(found, how="diagonal")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return the new questions with their answers, in the order of their names.

        Raises:
            BadInput: nothing to ask, an unknown baseline, or no problem on one of the sides.
        """
        earlier = partials.filter(pl.col("number").is_not_null()).sort("number")
        table = partials.filter(pl.col("name").is_not_null()).select("problem_key", "name", "value")
        names: list[str] = table["name"].unique().sort().to_list()
        if self.baseline and self.baseline not in names:
            raise BadInput(f"measure.holdout: baseline = '{self.baseline}' is none of {names}")
        wanted = [name for name in names if re.search(self.methods, name) and name != self.baseline]
        if not wanted:
            raise BadInput(f"measure.holdout: there is nothing to ask about; there are {names or 'no known answers'}")
        state = _State(earlier)
        rows = [self._ask(name, table, state) for name in wanted]
        return pl.DataFrame(rows, schema=polars_schema(HoldoutAnswer), orient="row")

    def _ask(self, name: str, table: pl.DataFrame, state: _State) -> tuple[object, ...]:
        values = table.filter(pl.col("name") == name).select("problem_key", "value").sort("problem_key")
        low, width = 0.0, 1.0
        if self.baseline:
            other = table.filter(pl.col("name") == self.baseline).select("problem_key", other="value")
            values = values.join(other, on="problem_key", maintain_order="left")
            values = values.select("problem_key", pl.col("value") - pl.col("other"))
            low, width, name = -1.0, 2.0, f"{name} - {self.baseline}"
        out = held_out(values["problem_key"], self.holdout).to_numpy()
        value: Floats = values["value"].to_numpy()
        n_tuning, n_holdout = int((~out).sum()), int(out.sum())
        if not n_tuning or not n_holdout:
            side = "held out" if not n_holdout else "left to tune on"
            raise BadInput(f"measure.holdout: of {len(value)} problems with a known answer none is {side}")
        question = digest([name, values["problem_key"].to_list(), [round(float(one), 9) for one in value]])
        about = Thresholdout(self.tolerance / width, self.budget, self.questions, self.risk, self.seed)
        tuning = float(value[~out].mean())
        bound = min(1.0, about.bound(n_holdout)) * width
        if question in state.known:
            number, answer, status = state.known[question]
            note = "asked before"
        else:
            told = about.ask((tuning - low) / width, (float(value[out].mean()) - low) / width, state.asked, state.spent)
            answer = None if told.value is None else told.value * width + low
            answer = tuning if told.status == "holds" else answer
            status = told.status
            note = f"within {bound:.3f} with probability {1.0 - self.risk:g}, all answers together"
            note = "too few are held out to promise anything for such a budget" if bound >= width else note
            note = "the budget is spent: hold out new problems" if status == "budget spent" else note
            number = state.took(question, answer, status)
        left = max(0, self.budget - state.spent)
        return (number, question, name, tuning, answer, status, left, n_tuning, n_holdout, bound, note)


class _State:
    """What was asked so far.

    Attributes:
        known: number, answer and status of each question that had an answer.
        asked, spent: how many these are, and how many of them differ.
    """

    def __init__(self, earlier: pl.DataFrame) -> None:
        answered = earlier.filter(pl.col("status") != "budget spent").unique("question", keep="first")
        rows = answered.select("question", "number", "answer", "status").iter_rows()
        self.known: dict[str, tuple[int, float | None, str]] = {question: tuple(rest) for question, *rest in rows}
        self.asked, self.spent = len(answered), int((answered["status"] == "differs").sum())
        self._number = int(earlier["number"].max() or 0)  # pyright: ignore[reportArgumentType]

    def took(self, question: str, answer: float | None, status: str) -> int:
        """Note an answer, and return its question's number."""
        self._number += 1
        if status != "budget spent":
            self.asked += 1
            self.spent += status == "differs"
            self.known[question] = (self._number, answer, status)
        return self._number
