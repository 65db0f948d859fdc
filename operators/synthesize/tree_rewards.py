"""Step rewards out of trees: what share of the texts that went through a step ended right (Monte Carlo values)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.score.process import ScoreProcess, StepRule
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, StepReward, Verdict
from schemas.later import pl


class SynthesizeTreeRewards(Operator):
    """Label each step of a text by the texts of its problem that begin with all its steps so far.

    A step's value is the share of them that are right (Wang et al. 2024, "Math-Shepherd", of a tree that is there
    instead of roll-outs drawn for it); its label is whether that reaches ``threshold``. A search that resamples gives
    copies: of equal texts of an episode one counts. Texts that share no step with others are labelled by their
    own verdict; ``shared`` leaves them out. Of a problem at most ``per_problem`` texts are taken, those first whose
    labels differ within the text.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt"),
        "samples": Sample.select("problem_key", "sample_index", "completion", "finish_reason", "status", "episode"),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status"),
    }
    output = StepReward

    per_problem: int = Field(default=4, ge=1)
    """Most texts of a problem."""
    threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """The least value of a good step."""
    shared: bool = True
    """Take only texts whose first step others have too."""
    rule: StepRule = "blank_line"
    """Where steps end."""
    separator: str = ""
    """A text that ends steps, instead of ``rule``."""

    def run(self, problems: pl.DataFrame, samples: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return the labelled texts."""
        judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
        usable = samples.filter(pl.col("status") == "ok", pl.col("finish_reason") != "length")
        rows = usable.join(judged.select(*SAMPLE_KEY, "is_correct"), on=SAMPLE_KEY).sort(*SAMPLE_KEY)
        rows = rows.unique(["problem_key", "episode", "completion"], keep="first", maintain_order=True)
        rows = rows.join(problems, on="problem_key", maintain_order="left")
        found: list[dict[str, Any]] = []
        for _, one in rows.group_by("problem_key", maintain_order=True):
            found += self._labelled(one.to_dicts())
        return pl.DataFrame(found, schema=polars_schema(StepReward))

    def _labelled(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a problem's texts with labels, as many as are kept."""
        cut = ScoreProcess(rule=self.rule, separator=self.separator)
        steps = [tuple(cut.steps(row["completion"])) for row in rows]
        right: defaultdict[tuple[str, ...], list[bool]] = defaultdict(list)
        for row, path in zip(rows, steps, strict=True):
            for depth in range(1, len(path) + 1):
                right[path[:depth]].append(row["is_correct"])
        table: dict[tuple[str, ...], dict[str, Any]] = {}
        for row, path in zip(rows, steps, strict=True):
            if not path or path in table or (self.shared and len(right[path[:1]]) == 1):
                continue
            through = [right[path[:depth]] for depth in range(1, len(path) + 1)]
            labels = [sum(votes) / len(votes) >= self.threshold for votes in through]
            kept = {name: row[name] for name in ("problem_id", "sample_index", "prompt")}
            table[path] = kept | {"completions": list(path), "labels": labels}
        order = sorted(table.values(), key=lambda one: (len(set(one["labels"])) == 1, one["sample_index"]))
        return sorted(order[: self.per_problem], key=lambda one: one["sample_index"])
