"""Process-reward rows: a trace in steps, with a label for each, from the scores of a process reward model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field

from operators.base import Operator
from operators.score.process import ScoreProcess, StepRule
from operators.select.classes import SAMPLE_KEY
from schemas.contract import polars_schema
from schemas.datasets import Problem, Sample, Score, StepReward


class SynthesizeStepRewards(Operator):
    """Label each step of a completion by whether its score reaches ``threshold``.

    Steps are cut as ``score.process`` cut them, so ``rule``, ``separator`` and ``step_tag`` must be its own. Of each
    problem at most ``per_problem`` distinct completions are taken, those first whose labels differ within the trace
    (a trace with all steps alike teaches a process reward model little), then the lowest sample_index.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt"),
        "samples": Sample.select("problem_key", "sample_index", "completion", "completion_hash", "status"),
        "scores": Score.select("problem_key", "sample_index", "scorer", "step_scores", "status"),
    }
    output = StepReward

    per_problem: Annotated[int, Field(ge=1)] = 4
    threshold: float = 0.5
    rule: StepRule = "blank_line"
    separator: str = ""
    step_tag: str = "\n"

    def run(self, problems: pl.DataFrame, samples: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
        """Return the labelled traces; one whose steps aren't as many as its scores is left out."""
        found = scores.filter(pl.col("status") == "ok", pl.col("step_scores").list.len() > 0)
        found = found.sort(*SAMPLE_KEY, "scorer").unique(SAMPLE_KEY, keep="first", maintain_order=True)
        cut = ScoreProcess(rule=self.rule, separator=self.separator, step_tag=self.step_tag)
        rows = samples.filter(pl.col("status") == "ok").join(found.select(*SAMPLE_KEY, "step_scores"), on=SAMPLE_KEY)
        rows = rows.sort(*SAMPLE_KEY).unique(["problem_key", "completion_hash"], keep="first", maintain_order=True)
        steps = pl.Series("completions", [cut.steps(text) for text in rows["completion"]], dtype=pl.List(pl.String))
        labels = pl.col("step_scores").list.eval(pl.element().fill_null(0.0) >= self.threshold)
        rows = rows.with_columns(steps, labels=labels).with_columns(
            mixed=pl.col("labels").list.n_unique() > 1,
        )
        rows = rows.filter(pl.col("completions").list.len() == pl.col("labels").list.len())
        rows = rows.sort("problem_key", "mixed", "sample_index", descending=[False, True, False])
        kept = rows.filter(pl.int_range(pl.len()).over("problem_key") < self.per_problem)
        table = kept.join(problems, on="problem_key", maintain_order="left").sort(*SAMPLE_KEY)
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(StepReward).items())
