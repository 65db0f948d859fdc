"""Process-reward rows: a trace in steps with a label for each, from a process reward model or from the outcome."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.cutting import StepRule
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, Score, StepReward, Verdict
from schemas.errors import BadInput
from schemas.later import pl


class SynthesizeStepRewards(Operator):
    """Label each step of a completion: by whether its score reaches ``threshold``, or by the outcome.

    Given ``scores`` of a process reward model, steps are cut as ``score.process`` cut them, so ``rule``, ``separator``
    and ``step_tag`` must be its own (Lightman et al. 2023). Otherwise all steps of a completion are labelled by its
    verdict, as an outcome-supervised reward model is trained (Cobbe et al. 2021; Uesato et al. 2022).

    Of each problem at most ``per_problem`` distinct completions are taken: those first whose labels differ within the
    trace (one with all steps alike teaches a process reward model little), then good and bad ones in turn, the lowest
    sample_index first.
    """

    version: ClassVar[int] = 2
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt"),
        "samples": Sample.select(
            "problem_key", "sample_index", "completion", "completion_hash", "finish_reason", "status"
        ),
        "scores": Score.select("problem_key", "sample_index", "scorer", "step_scores", "status"),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status"),
    }
    optional = frozenset({"scores", "verdicts"})
    output = StepReward

    per_problem: Annotated[int, Field(ge=1)] = 4
    """Most completions of a problem."""
    threshold: float = 0.5
    """The least score of a good step."""
    rule: StepRule = "blank_line"
    """Where steps end."""
    separator: str = ""
    """A text that ends steps, instead of ``rule``."""
    step_tag: str = "\n"
    """The token behind each step at which the process reward model gave its score."""

    def run(
        self,
        problems: pl.DataFrame,
        samples: pl.DataFrame,
        scores: pl.DataFrame | None = None,
        verdicts: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return the labelled traces; one whose steps aren't as many as its scores is left out.

        Raises:
            BadInput: neither scores of steps nor verdicts.
        """
        usable = samples.filter(pl.col("status") == "ok")
        steps = pl.Series("completions", [self._cut(text) for text in usable["completion"]], dtype=pl.List(pl.String))
        usable = usable.with_columns(steps)
        rows = self._labelled(usable, scores, verdicts)
        rows = rows.sort(*SAMPLE_KEY).unique(["problem_key", "completion_hash"], keep="first", maintain_order=True)
        rows = rows.filter(pl.col("completions").list.len() == pl.col("labels").list.len())
        rows = rows.with_columns(mixed=pl.col("labels").list.n_unique() > 1, good=pl.col("labels").list.all())
        turn = pl.int_range(pl.len()).over("problem_key", "mixed", "good").alias("turn")
        rows = rows.sort(*SAMPLE_KEY).with_columns(turn)
        order = ["problem_key", "mixed", "turn", "good"]
        rows = rows.sort(*order, descending=[False, True, False, True])
        kept = rows.filter(pl.int_range(pl.len()).over("problem_key") < self.per_problem)
        table = kept.join(problems, on="problem_key", maintain_order="left").sort(*SAMPLE_KEY)
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(StepReward).items())

    def _cut(self, text: str) -> list[str]:
        from operators.score.process import ScoreProcess  # asks engines, which settings do without

        return ScoreProcess(rule=self.rule, separator=self.separator, step_tag=self.step_tag).steps(text)

    def _labelled(
        self, samples: pl.DataFrame, scores: pl.DataFrame | None, verdicts: pl.DataFrame | None
    ) -> pl.DataFrame:
        """Add ``labels``, one for each step, where they are known."""
        if scores is not None and (verdicts is None or scores["step_scores"].list.len().fill_null(0).max()):
            found = scores.filter(pl.col("status") == "ok", pl.col("step_scores").list.len() > 0)
            found = found.sort(*SAMPLE_KEY, "scorer").unique(SAMPLE_KEY, keep="first", maintain_order=True)
            labels = pl.col("step_scores").list.eval(pl.element().fill_null(0.0) >= self.threshold)
            return samples.join(found.select(*SAMPLE_KEY, labels=labels), on=SAMPLE_KEY)
        if verdicts is None:
            raise BadInput("synthesize.step_rewards needs labels: scores of steps (score.process), or verdicts")
        judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
        ended = samples.filter(pl.col("finish_reason") != "length").join(
            judged.select(*SAMPLE_KEY, "is_correct"), on=SAMPLE_KEY
        )
        return ended.with_columns(labels=pl.col("is_correct").repeat_by(pl.col("completions").list.len()))
