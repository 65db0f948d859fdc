"""Curves by the number of steps (ProcBench): how long can a procedure be before it isn't followed any more?"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.intervals import new_problems
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from operators.verify.procedure import VerifyProcedure
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Verdict
from schemas.errors import BadInput
from schemas.later import np, pl
from schemas.measures import StepCurve

RANGES = {"short": (2, 6), "medium": (7, 16), "long": (17, 25)}
"""Numbers of steps."""
METRICS = ("prefix", "sequence", "final")


class MeasureBySteps(PiecewiseOperator):
    """Accuracy of ``verify.procedure``'s verdicts by the number of steps that a problem has (Fujisawa et al. 2024,
    "ProcBench: Benchmark for Multi-Step Reasoning and Following Procedure").

    * ``prefix``: prefix accuracy, the longest common prefix over the longer of the two lists.
    * ``sequence``: whether all steps are right.
    * ``final``: whether the last step is, whatever those before it are. Where it is well above ``sequence``, models
      get there by another way.

    95% intervals are for problems like these (Gaffke's, as of measure.pass_at_k).
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": Verdict.select(
            *SAMPLE_KEY, "verifier", "predicted_answer", "is_correct", "credit", "status", "chosen"
        ),
        "problems": Problem.select("problem_key", "problem_id", "answer", "verification"),
    }
    output = StepCurve

    ignore_case: bool = True
    """As ``verify.procedure`` was told."""
    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the intervals' random draws: the same seed, the same intervals."""

    def partial(self, verdicts: pl.DataFrame | None = None, problems: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return a row per problem: its number of steps, and its mean of each metric."""
        assert verdicts is not None and problems is not None
        verifier = VerifyProcedure(ignore_case=self.ignore_case)
        golds = {row["problem_key"]: verifier.gold(row) for row in problems.iter_rows(named=True)}
        known = {key: json.loads(text) for key, text in golds.items() if text is not None}
        judged = draws(one_verifier(verdicts)).filter(
            pl.col("status").is_in(DRAWN),
            pl.col("is_correct").is_not_null(),
            pl.col("problem_key").is_in(list(known)),
        )
        pairs = judged.select("problem_key", "predicted_answer").unique()
        last = [
            text is not None and _last(text) == known[key][-1]
            for key, text in pairs.select("problem_key", "predicted_answer").iter_rows()
        ]
        judged = judged.join(pairs.with_columns(last=pl.Series(last, dtype=pl.Boolean)),
                             on=["problem_key", "predicted_answer"], nulls_equal=True)  # fmt: skip
        steps = pl.col("problem_key").replace_strict(
            list(known), [len(gold) for gold in known.values()], return_dtype=pl.Int64
        )
        return judged.group_by("problem_key").agg(
            prefix=pl.col("credit").fill_nan(None).fill_null(0.0).mean(),
            sequence=pl.col("is_correct").mean(),
            final=pl.col("last").mean(),
            n=pl.len().cast(pl.Int64),
        ).with_columns(steps=steps)  # fmt: skip

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per metric and number of steps, and per range of them.

        Raises:
            BadInput: no problem has both steps and a verdict.
        """
        table = partials.sort("problem_key")
        if table.is_empty():
            raise BadInput(
                "measure.by_steps: no problem has both steps (verification.steps, or an answer) and verdicts"
            )
        groups = {str(number): pl.col("steps") == number for number in table["steps"].unique().sort().to_list()}
        groups |= {name: pl.col("steps").is_between(low, high) for name, (low, high) in RANGES.items()}
        groups["all"] = pl.lit(True)
        rows: list[tuple[Any, ...]] = []
        for name, chosen in groups.items():
            some = table.filter(chosen)
            if some.is_empty():
                continue
            each = some.select(METRICS).to_numpy().astype(np.float64)
            low, high = new_problems(each, each, self.bootstrap, self.seed)
            numbers = zip(METRICS, each.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
            n = int(some["n"].sum())
            rows += [(metric, name, value, *ends, len(some), n) for metric, value, *ends in numbers]
        return pl.DataFrame(rows, schema=polars_schema(StepCurve), orient="row")


def _last(written: str) -> str | None:
    """Return the last step of a list that ``verify.procedure`` read; None where it isn't one."""
    try:
        steps = json.loads(written)
    except json.JSONDecodeError:
        return None
    return steps[-1] if isinstance(steps, list) and steps else None  # pyright: ignore[reportUnknownVariableType]
