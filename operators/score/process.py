"""Process rewards: a score for each step of a completion, and one for the whole."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from operators.cutting import Reduction, StepRule, reduced, steps_of
from operators.engine import Engine, EngineError, ScoreRequest
from operators.score.scoring import Row, Scoring, name_of


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
    """How the steps' scores become one."""

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
