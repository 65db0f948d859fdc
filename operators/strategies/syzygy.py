"""Syzygy of thoughts (Li et al. 2025): auxiliary conditions, several solutions by them, and the best of these."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, SILENT, last_object, only, retold, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

KEYS = ("module", "betti_numbers", "free_conditions", "mapping", "minimality", "final_answer")
_TEXT: dict[str, Any] = {"type": "string"}
_LIST: dict[str, Any] = {"type": "array", "items": _TEXT}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "module": _TEXT, "betti_numbers": {"type": "integer"}, "free_conditions": _LIST, "mapping": _LIST,
        "minimality": _TEXT, "final_answer": _TEXT,
    },
    "required": list(KEYS),
    "additionalProperties": False,
}  # fmt: skip


class Syzygy(Strategy):
    """Ask for one JSON document that invents conditions, solves the problem with them several times, and chooses.

    Follows the public code (temperature 0, 2,048 tokens there). ``split`` makes calls of the stages: the conditions,
    the solutions as one group, the choice; the default is then to draw at temperature .7. A document that can't be read
    (10 conditions often don't fit) is read as any text is.
    """

    version: ClassVar[int] = 1

    betti: int = Field(default=10, ge=1)
    """How many auxiliary conditions are invented."""
    solutions: int = Field(default=5, ge=1)
    """How many solutions are asked for."""
    split: bool = False
    """Make a call of each stage, instead of one document."""
    guided: bool = False
    """Have the engine write the document by its schema, where it guides decoding by JSON schemas."""
    temperature: float | None = Field(default=None, ge=0.0)
    """By default 0 for one call, and .7 for several."""
    template: PromptTemplate = (
        "{prompt}\n\nAnswer with one JSON document with these keys: module (the problem in your words), betti_numbers "
        "({betti}), free_conditions (a list of {betti} auxiliary conditions that help to solve it), mapping (a list of "
        "{solutions} complete solutions that use them), minimality (an evaluation of all solutions, and which is the "
        "best), final_answer (the answer alone)."
    )
    """A template, filled in with {prompt}, {betti} and {solutions}."""
    conditions: PromptTemplate = (
        "{prompt}\n\nDon't solve the problem yet. List {betti} auxiliary conditions or facts that help to solve it."
    )
    """A template, filled in with {prompt} and {betti}."""
    solve: PromptTemplate = (
        "{prompt}\n\nUse what you need of these:\n{conditions}\n\nGive a complete solution with its final answer."
    )
    """A template, filled in with {prompt} and {conditions}."""
    choose: PromptTemplate = (
        "{prompt}\n\nThese are solutions of the problem:\n\n{solutions}\n\nEvaluate them all, say which is the best, "
        "and give the final answer."
    )
    """A template, filled in with {prompt} and {solutions}."""

    def all_greedy(self, temperature: float) -> bool:
        return not self.temperature and not (self.split and self.temperature is None)

    def worst(self, prompt: int, most: int) -> Bill:
        if not self.split:
            return Bill(1, prompt + at_most(self.template) + 16, 0, most)
        first = prompt + at_most(self.conditions)
        each = prompt + at_most(self.solve) + most
        last = prompt + at_most(self.choose) + self.solutions * (most + 8)
        calls = self.solutions + 2
        return Bill(calls, first + self.solutions * each + last, 0, calls * most)

    async def play(self, ep: Episode) -> Result:
        return await (self._stages(ep) if self.split else self._document(ep))

    async def _document(self, ep: Episode) -> Result:
        turns = retold(ep, self.template, betti=str(self.betti), solutions=str(self.solutions))
        schema = SCHEMA if self.guided else None
        temperature = self.temperature or 0.0
        [said] = await ep.generate([Ask(prompt=await ep.render(turns), temperature=temperature, json_schema=schema)])
        found = None if said.finish in SILENT else last_object(said.text)
        final = (found or {}).get("final_answer")
        ep.note(truncated=said.finish == "length", unreadable=final is None)
        node = Node.whole(said)
        if final is None:
            return only(node)
        answer = final if isinstance(final, str) else json.dumps(final)
        written = answer if "\\boxed" in answer else f"\\boxed{{{answer}}}"
        return only(replace(node, text=f"{node.text}{BETWEEN}The answer is {written}"))

    async def _stages(self, ep: Episode) -> Result:
        temperature = 0.7 if self.temperature is None else self.temperature
        turns = retold(ep, self.conditions, betti=str(self.betti))
        [said] = await ep.generate([Ask(prompt=await ep.render(turns), temperature=temperature)])
        if said.finish in SILENT:
            return only(Node.whole(said))
        prompt = await ep.render(retold(ep, self.solve, conditions=said.text.strip()))
        ask = Ask(prompt=prompt, temperature=temperature, parent=said.call)
        solved = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate([ask] * self.solutions))]
        if not there(solved):
            return only(solved[0])
        shown = BETWEEN.join(f"{place}. {node.text}" for place, node in enumerate(there(solved), 1))
        prompt = await ep.render(retold(ep, self.choose, solutions=shown))
        [said] = await ep.generate([Ask(prompt=prompt, temperature=temperature)])
        return only(Node.whole(said) if said.finish not in SILENT else there(solved)[0])
