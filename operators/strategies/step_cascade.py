"""A cascade of two models step by step: the small one writes, the large one steps in where a step scores too little."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.strategies.cascade import LARGE
from operators.strategies.episode import Episode
from operators.strategies.search import Search
from operators.strategies.steps import grow
from operators.strategies.words import Bill, Node, Result


class StepCascade(Search):
    """Have the small model write each step; where the scorer gives less than ``threshold`` the large one writes it
    anew.

    Published cascades route whole problems; this is our own. The large model may well be the scorer (``truth`` with
    ``role`` large). The share of steps that it wrote is in the note.
    """

    version: ClassVar[int] = 1
    roles = (LARGE,)

    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    """The least score with which the small model's step is kept."""

    @property
    def asks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.roles, *super().asks)))

    def worst(self, prompt: int, most: int) -> Bill:
        return self.walking(prompt, most, 1) + self.writing(prompt, most, 1)

    async def play(self, ep: Episode) -> Result:
        node, dear = Node(), 0
        while not node.ended:
            [[small]] = await self.grown(ep, [node])
            if small.finish != "cap" and (small.score is None or small.score < self.threshold):
                [[large]] = await grow(ep, [node], self.rule, role=LARGE)
                small, dear = (large if large.finish not in ("error", "cap") else small), dear + 1
            node = small
        ep.note(steps=node.steps, large=dear)
        return self.result(ep, [node], None if node.finish == "error" or not node.text else 0)
