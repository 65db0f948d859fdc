"""End a thought once its answer is sure (Qiao et al. 2025, "ConCISE"), while it is written."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from operators.reflections import PHRASES, REFLECTION
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.steps import StepRule, grow
from operators.strategies.strategy import Strategy
from operators.strategies.talking import SILENT, continued, only
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import Pattern
from operators.thinking import opens_thought


class Early(Strategy):
    """Write step by step; after a step ask for the answer, and end where the same one was sure several times in a row.

    The complement of ``synthesize.concise``, which shortens what is there; thresholds are our own. A probe reads the
    whole text again: prompt tokens grow with the square of the steps. ``inject`` puts a confident phrase in place of a
    step that begins with a reflection.
    """

    version: ClassVar[int] = 1
    steps: ClassVar[bool] = True

    rule: StepRule = StepRule()
    """Where a step ends."""
    from_step: int = Field(default=2, ge=1)
    """The first step behind which the answer is asked for."""
    every: int = Field(default=1, ge=1)
    """How many steps lie between two probes."""
    sure: float = Field(default=0.5, ge=0.0, le=1.0)
    """The probability of the answer, what closes it included, that it must exceed."""
    in_row: int = Field(default=2, ge=1)
    """How many probes in a row must be sure of the same answer."""
    probe: str = "\n\nThe final answer is \\boxed{"
    """What is put behind the steps to ask for the answer."""
    probe_tokens: int = Field(default=16, ge=1)
    """The most tokens of the answer to a probe."""
    inject: bool = False
    """Put phrases in place of steps that begin with a reflection."""
    reflection: Pattern = REFLECTION
    """How a step begins that doubts or checks."""
    phrases: Annotated[tuple[str, ...], Field(min_length=1)] = PHRASES
    """The confident phrases, taken in turn."""
    injections: int = Field(default=4, ge=1)
    """The most phrases that are put into a text."""
    closing: str = "\n</think>\n\n"
    """What closes a thought, where one is open; the answer is then written by the model."""
    answer_tokens: int = Field(default=256, ge=1)
    """The most tokens of the final answer."""
    answers: Answers = Answers()
    """How answers are read."""

    def worst(self, prompt: int, most: int) -> Bill:
        rule, longest = self.rule, self.rule.most(most)
        given = self.injections * max(len(phrase.encode()) + 2 for phrase in self.phrases) if self.inject else 0
        closing = len(self.probe.encode()) + len(self.closing.encode())
        walked = rule.max_steps * (prompt + longest + given)
        probes = rule.max_steps * (prompt + longest + given + closing + self.probe_tokens)
        tries, asked = rule.empties, rule.max_steps
        answer = Bill(1, prompt + longest + given + closing, 0, self.answer_tokens)
        written = tries * rule.written(most)
        return answer + Bill(
            asked * (tries + 1), tries * walked + probes, 0, written + asked * self.probe_tokens, asked, probes
        )

    async def play(self, ep: Episode) -> Result:
        node, run, known, injected = Node(), 0, None, 0
        while not node.ended:
            before = node
            [[node]] = await grow(ep, [node], self.rule)
            step = node.text[len(before.text) :]
            if (
                self.inject
                and not node.ended
                and injected < self.injections
                and re.match(self.reflection, step.lstrip())
            ):
                phrase = self.phrases[int(ep.uniform(f"phrase/{injected}") * len(self.phrases))]
                node, injected = replace(node, text=before.text + phrase + self.rule.stop[0]), injected + 1
                ep.note(injected=1)
            if node.ended or node.steps < self.from_step or (node.steps - self.from_step) % self.every:
                continue
            answer, chance = await self._asked(ep, node)
            same = answer is not None and (known is None or len(set(self.answers.classes([answer, known]))) == 1)
            run = (run + 1 if same else 1) if answer is not None and chance > self.sure else 0
            known = answer if run else None
            if run == self.in_row:
                ep.note(early=1, steps=node.steps)
                return await self._closed(ep, node, answer or "")
        ep.note(early=0, steps=node.steps)
        return only(node)

    async def _asked(self, ep: Episode, node: Node) -> tuple[str | None, float]:
        """Return the answer that would be given now, and its probability."""
        begun = node.text.rstrip() + self.probe
        ask = Ask(prefix=begun, max_tokens=self.probe_tokens, temperature=0.0, parent=node.call)
        [said] = await ep.generate([ask])
        answer = None if said.finish in SILENT else _until_closed(said.text)
        if answer is None:
            return None, 0.0
        [found] = await ep.likelihood([(ep.prompt + ep.setting.lead + begun, answer + "}")])
        return answer, 0.0 if found is None else math.exp(found[0])

    async def _closed(self, ep: Episode, node: Node, answer: str) -> Result:
        inside = opens_thought(ep.prompt + ep.setting.lead)
        if not inside:
            return only(replace(node, text=node.text.rstrip() + self.probe + answer + "}").end("stop"))
        begun = replace(node, text=node.text.rstrip() + self.closing)
        most = min(self.answer_tokens, max(1, ep.params.max_tokens - node.tokens))
        [said] = await ep.generate([Ask(prefix=begun.text, max_tokens=most, parent=node.call)])
        return only(continued(begun, said))


def _until_closed(text: str) -> str | None:
    """Return what stands before the brace that closes the one before the text; None where none does."""
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:place].strip() or None
    return None
