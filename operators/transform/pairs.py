"""Pairs (Johnson et al. 2024, "Experts Don't Cheat"): problems that show one answer and ask for a second.

A model that knows how likely each answer is learns nothing from being shown one that was drawn by these chances: a
second answer is as likely to be the same as any two are. What it takes over from the first is what it doesn't know.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from operators.base import Operator
from operators.draws import draws
from operators.select.classes import answer_key, one_verifier
from operators.text import fill
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Verdict
from schemas.identity import problem_keys, prompt_keys
from schemas.later import pl

FIELD = "pair"
"""The metadata field that says which answer a problem shows, and of which problem."""
SHOWN = (
    "{prompt}\n\nTwo people were asked this, one after the other and each for themselves. The first one answered: "
    "{first}\nWhat did the second one answer?"
)


def _has_first(template: str) -> str:
    if "{prompt}" not in template or "{first}" not in template:
        raise ValueError("the template must contain {prompt} and {first}")
    return template


class SynthesizePairs(Operator):
    """Make problems that show the first answer of a pair; sampling them gives the second (``measure.pairs``).

    Of each problem the answers of its first ``per_problem`` samples are shown, one each; equal answers share a problem,
    whose metadata says how many samples gave it, so that answers are shown as often as the model gives them. Sampled
    and verified as any problems are (``load.source=pairs.parquet``), they give the second answers.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select(),
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "predicted_answer", "answer_key", "status", "chosen"),
    }
    output = Problem

    per_problem: Annotated[int, Field(ge=1)] = 32
    """How many first answers of a problem are shown."""
    template: Annotated[str, AfterValidator(_has_first)] = SHOWN
    """A template, filled in with {prompt} and {first}."""

    def run(self, problems: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return one problem for each answer that is shown, in the order of problems and answers."""
        rows = draws(one_verifier(verdicts)).sort(SAMPLE_KEY)
        rows = rows.filter(pl.int_range(pl.len()).over("problem_key") < self.per_problem)
        rows = rows.with_columns(key=answer_key(rows.columns)).filter(pl.col("key").is_not_null())
        rows = rows.join(problems.select("problem_key"), on="problem_key", how="semi", maintain_order="left")
        shown = rows.group_by("problem_key", "key", maintain_order=True).agg(
            first=pl.coalesce("predicted_answer", "key").first(), times=pl.len()
        )
        about = {row["problem_key"]: row for row in problems.iter_rows(named=True)}
        made = [self._shown(about[row["problem_key"]], row) for row in shown.iter_rows(named=True)]
        found = pl.DataFrame(made, schema=polars_schema(Problem))
        return found.with_columns(problem_keys(found), prompt_keys(found))

    def _shown(self, problem: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        pair = {"of": problem["problem_key"], "first": row["key"], "times": row["times"]}
        metadata = {**json.loads(problem["metadata"] or "{}"), FIELD: pair}
        return {
            **problem,
            "problem_id": f"{problem['problem_id']}/{row['key']}",
            "prompt": fill(self.template, {"prompt": problem["prompt"], "first": row["first"]}),
            "messages": None,
            "metadata": json.dumps(metadata, ensure_ascii=False),
        }
