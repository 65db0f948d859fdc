"""One step a call (for ProcBench: Fujisawa et al. 2024): is a procedure followed better if each step is asked alone?"""

from __future__ import annotations

from typing import ClassVar

from operators.strategies.episode import Episode
from operators.strategies.steps import StepRule, grow
from operators.strategies.strategy import Strategy
from operators.strategies.talking import only
from operators.strategies.words import Bill, Node, Result


class Stepwise(Strategy):
    """Write a text a step at a time, each in a call of its own that reads all steps before it.

    Nothing is judged on the way. It ends as a text does, so what it says beyond the last step counts against it.
    """

    version: ClassVar[int] = 1
    steps: ClassVar[bool] = True

    rule: StepRule = StepRule(stop=("\n",), step_tokens=64, end=None)
    """Where a step ends, by default at a line's end, and where the text does."""

    def worst(self, prompt: int, most: int) -> Bill:
        rule, calls = self.rule, self.rule.max_steps * self.rule.empties
        return Bill(calls, rule.empties * rule.read(prompt, most), 0, rule.empties * rule.written(most))

    async def play(self, ep: Episode) -> Result:
        node = Node()
        while not node.ended:
            [[node]] = await grow(ep, [node], self.rule)
        ep.note(steps=node.steps)
        return only(node)
