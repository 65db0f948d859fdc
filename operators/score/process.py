"""Process rewards: a score for each step of a completion, and one for the whole."""

from __future__ import annotations

import math
import re
from typing import ClassVar, Literal

from pydantic import field_validator

from operators.engine import Engine, EngineError, ScoreRequest
from operators.score.scoring import Row, Scoring, name_of

RULES = {
    "blank_line": r"\n\s*\n",
    "line": r"\n+",
    "sentence": r"(?<=[.!?])\s+(?=[A-Z\"'(\\$])",
    "numbered": r"\n+(?=(?:Step\s+)?\d+[.:)])",
}
StepRule = Literal["blank_line", "line", "sentence", "numbered"]
Reduction = Literal["min", "prod", "last", "mean"]


class ScoreProcess(Scoring):
    """Score every step with a process reward model (Lightman et al. 2023), and reduce to one score.

    A completion is cut into steps by ``rule``, or by ``separator``, a text that the model itself wrote between them.
    Behind each step the model is shown ``step_tag``, one token of its, where it gives its score: the probability that
    the solution is right so far. ``step_scores`` has one for each step.
    """

    version: ClassVar[int] = 1

    rule: StepRule = "blank_line"
    """Where a step ends: at a blank line, at each line, at a sentence's end, before a number or "Step 2:"."""
    separator: str = ""
    """Cut at this text instead."""
    step_tag: str = "\n"
    """What the model was trained to be asked with: ``<extra_0>`` (Qwen2.5-Math-PRM), `` ки`` (Math-Shepherd), ..."""
    reduce: Reduction = "min"

    @field_validator("step_tag")
    @classmethod
    def _is_there(cls, value: str) -> str:
        if not value:
            raise ValueError("a process reward model needs a tag behind each step")
        return value

    def steps(self, completion: str) -> list[str]:
        """Return the steps of a completion, without tags of its own; at least one."""
        return steps_of(completion, self.rule, self.separator, self.step_tag)

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        steps = self.steps(row["completion"])
        prompt = await self.rendered(engine, problem)
        text = "".join(f"{step}{self.step_tag}" for step in steps)
        found = await engine.score(ScoreRequest(prompt, text, "steps", self.step_tag, name_of(row)))
        if len(found.steps) != len(steps):
            raise EngineError(
                f"request {name_of(row)}: {len(found.steps)} scores for {len(steps)} steps; is step_tag a token that "
                "nothing else in the text is?"
            )
        return {"score": reduced(found.steps, self.reduce), "step_scores": list(found.steps)}


def steps_of(completion: str, rule: StepRule, separator: str, step_tag: str) -> list[str]:
    """Return the steps of a completion, without step tags of its own; at least one.

    Args:
        separator: cut at this text instead of by the rule.
    """
    parts = completion.split(separator) if separator else re.split(RULES[rule], completion)
    kept = [part.replace(step_tag, " ").strip() for part in parts]
    return [part for part in kept if part] or [""]


def reduced(steps: tuple[float, ...], how: Reduction) -> float:
    """Return one score of the scores of all steps (at least one)."""
    if how == "min":
        return min(steps)
    if how == "prod":
        return math.prod(steps)
    return steps[-1] if how == "last" else sum(steps) / len(steps)
