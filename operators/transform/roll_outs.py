"""Roll-outs (Wang et al. 2024, "Math-Shepherd"): a step is as good as what can still be reached from it.

Process-reward rows without a process reward model, in two halves with a sampling stage between them. ``RollOuts`` makes
a problem of every prefix of some traces; these are sampled and verified as any problems are (pipeline ``rollouts``);
``RollOutRewards`` labels each step by what became of the samples that went on from it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.cutting import StepRule
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from operators.text import PromptTemplate
from operators.transform.trace import steps_of
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, StepReward, Verdict
from schemas.errors import BadInput
from schemas.identity import problem_keys
from schemas.later import pl

FIELD = "roll_out"
"""The metadata field that says what a problem is the prefix of."""


class SynthesizeRollOuts(Operator):
    """Make a problem of each prefix of a trace that ends with a step, the whole trace's excepted.

    Its last turn is the assistant's and holds the prefix, so that sampling goes on from there. Of each problem up to
    ``per_problem`` distinct finished completions are taken, right and wrong ones in turn, the lowest sample_index
    first. The metadata keeps the steps and whether the whole trace was right.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select(),
        "samples": Sample.select(*SAMPLE_KEY, "completion", "completion_hash", "finish_reason", "status"),
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "is_correct", "status"),
    }
    output = Problem

    per_problem: Annotated[int, Field(ge=1)] = 4
    """Most completions of a problem."""
    rule: StepRule = "blank_line"
    """Where steps end."""
    max_steps: Annotated[int, Field(ge=2)] | None = None
    """Leave out traces with more steps."""
    system: str | None = None
    """A system prompt before the problem."""
    template: PromptTemplate = "{prompt}"
    """The user's turn, as it was sampled with; problems with messages of their own keep these."""

    def run(self, problems: pl.DataFrame, samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return the prefixes as problems, in the order of the traces and their steps."""
        judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
        ended = samples.filter(pl.col("status") == "ok", pl.col("finish_reason") != "length")
        rows = ended.join(judged.select(*SAMPLE_KEY, "is_correct"), on=SAMPLE_KEY).sort(SAMPLE_KEY)
        rows = rows.unique(["problem_key", "completion_hash"], keep="first", maintain_order=True)
        steps = [steps_of(text, self.rule) for text in rows["completion"]]
        rows = rows.with_columns(pl.Series("steps", steps, dtype=pl.List(pl.String)))
        most = self.max_steps or int(rows["steps"].list.len().max() or 0)  # pyright: ignore[reportArgumentType]
        rows = rows.filter(pl.col("steps").list.len().is_between(2, most))
        rows = rows.with_columns(turn=pl.int_range(pl.len()).over("problem_key", "is_correct"))
        rows = rows.sort("problem_key", "turn", "is_correct", descending=[False, False, True])
        rows = rows.filter(pl.int_range(pl.len()).over("problem_key") < self.per_problem).sort(SAMPLE_KEY)
        about = {row["problem_key"]: row for row in problems.iter_rows(named=True)}
        found = [part for row in rows.iter_rows(named=True) for part in self._prefixes(about[row["problem_key"]], row)]
        table = pl.DataFrame(found, schema={**polars_schema(Problem), "trace": pl.Object}, orient="row")
        table = table.with_columns(problem_keys(table))
        # traces that begin alike share the problems of their first steps
        traces: dict[str, list[dict[str, Any]]] = {}
        for key, trace in table.select("problem_key", "trace").iter_rows():
            traces.setdefault(key, []).append(trace)
        table = table.drop("trace").unique("problem_key", keep="first", maintain_order=True)
        metadata = [
            json.dumps({**json.loads(known or "{}"), FIELD: traces[key]}, ensure_ascii=False)
            for key, known in table.select("problem_key", "metadata").iter_rows()
        ]
        return table.with_columns(metadata=pl.Series(metadata, dtype=pl.String))

    def _prefixes(self, problem: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
        own = problem["messages"] or [{"role": "user", "content": self.template.replace("{prompt}", problem["prompt"])}]
        brings = own[0]["role"] == "system"
        turns = [*([{"role": "system", "content": self.system}] if self.system and not brings else []), *own]
        steps: list[str] = row["steps"]
        trace = {"problem_id": problem["problem_id"], "sample_index": row["sample_index"]}
        found: list[dict[str, Any]] = []
        for step in range(1, len(steps)):
            about = {**trace, "step": step}
            if step == 1:  # once is enough
                about |= {"steps": [text.strip() for text in steps], "right": row["is_correct"]}
                about |= {"prompt": problem["prompt"]}
            begun = {"role": "assistant", "content": "".join(steps[:step])}
            found.append(
                {
                    **problem,
                    "problem_id": f"{problem['problem_id']}/{row['sample_index']}/{step}",
                    "messages": [*turns, begun],
                    "trace": about,
                }
            )
        return found


class SynthesizeRollOutRewards(PiecewiseOperator):
    """Label each step of a trace by the roll-outs from it; the last one by whether the trace itself was right.

    ``hard``: good if any roll-out reached the right answer (hard estimation); ``soft``: if at least the share
    ``threshold`` of them did. A trace without a judged roll-out from each of its steps is left out.
    """

    version: ClassVar[int] = 1
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "metadata"),
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "is_correct", "status"),
    }
    output = StepReward

    estimate: Literal["hard", "soft"] = "hard"
    """``hard``: any right roll-out makes a step good; ``soft``: the share of them decides."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """The share of right roll-outs from which on ``soft`` calls a step good."""

    def check_problems(self, problems: pl.DataFrame) -> None:
        for row in problems.select("problem_id", "metadata").iter_rows(named=True):
            _traces(row)

    def partial(self, problems: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
        shares = judged.group_by("problem_key").agg(pl.col("is_correct").mean().alias("share"))
        shares = dict(shares.select("problem_key", "share").iter_rows())
        rows = [
            {**trace, "share": shares.get(row["problem_key"])}
            for row in problems.iter_rows(named=True)
            for trace in _traces(row)
        ]
        return pl.DataFrame(rows, schema=_partial(), orient="row")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return the traces whose steps are all labelled, sorted by problem and sample_index."""
        traces = (
            partials.sort("problem_id", "sample_index", "step")
            .group_by("problem_id", "sample_index", maintain_order=True)
            .agg("share", pl.col("steps", "right", "prompt").drop_nulls().first())
            .filter(pl.col("steps").is_not_null(), pl.col("share").list.len() == pl.col("steps").list.len() - 1)
            .filter(~pl.col("share").list.eval(pl.element().is_null()).list.any())
        )
        least = 1e-12 if self.estimate == "hard" else self.threshold
        labels = pl.concat_list(pl.col("share").list.eval(pl.element() >= least), pl.concat_list("right"))
        table = traces.with_columns(labels=labels, completions="steps")
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(StepReward).items())


def _partial() -> dict[str, Any]:
    """Return the dtypes of its columns."""
    return {
        "problem_id": pl.String,
        "sample_index": pl.Int64,
        "step": pl.Int64,
        "steps": pl.List(pl.String),
        "right": pl.Boolean,
        "prompt": pl.String,
        "share": pl.Float64,
    }


def _traces(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return of which traces, and up to which step, a problem is the prefix."""
    traces = json.loads(row["metadata"] or "{}").get(FIELD)
    if not isinstance(traces, list) or not all("step" in trace for trace in traces):  # pyright: ignore[reportUnknownVariableType]
        raise BadInput(
            f"problem '{row['problem_id']}' isn't a prefix of a trace: its metadata has no '{FIELD}'. Make the "
            "problems with synthesize.roll_outs"
        )
    return traces  # pyright: ignore[reportUnknownVariableType]
