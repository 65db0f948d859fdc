"""ThinkSum (Ozturkler et al. 2023): think in parallel, then sum what each thought makes of each choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import REPEATS, asked, listed, only, options, read_each
from operators.strategies.weighing import shares_of
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

FLOOR = 1e-12
"""Probabilities below this are taken to be this where logarithms are summed."""
MOST = 26
"""Choices of a problem at most: the letters."""


class ThinkSum(Strategy):
    """Ask for examples or facts, then for the likelihood of each choice behind each of them, and sum.

    The formulas are written from memory of the paper. With p the probability of a choice behind a thought: ``mixture``
    is ln mean p, ``product`` mean ln p, ``max`` and ``min`` of ln p, ``ratio`` mean (ln p - ln p without a thought),
    and ``truth`` mean ln of P(yes) / (P(yes) + P(no)) of the choice as a statement. A thought that the engine refuses
    is dropped for all choices. The row is the choice; its score is its probability.
    """

    version: ClassVar[int] = 1

    choices: tuple[str, ...] = ()
    """By default those that the problem lists (``(A) ...``, a line each)."""
    examples: int = Field(default=10, ge=0)
    """Thoughts; 0, or where none can be read: the choices are compared directly."""
    by: Literal["mixture", "product", "max", "min", "ratio", "truth"] = "mixture"
    """How the likelihoods behind the thoughts are summed: see above."""
    per_token: bool = False
    """Divide ln p by the choice's tokens, for choices of unequal length."""
    think: PromptTemplate = (
        "{prompt}\n\nList {count} examples or facts that bear on this, one a line, and nothing else."
    )
    """A template, filled in with {prompt} and {count}."""
    think_tokens: int = Field(default=512, ge=1)
    """The most tokens of the list of thoughts."""
    template: PromptTemplate = "{prompt}\n\nConsider: {thought}\n\nWhat is the answer?"
    """A template, filled in with {prompt} and {thought}."""
    cue: str = "The answer is "
    """What the reply begins with, before the choice."""
    statement: PromptTemplate = "{prompt}\n\nConsider: {thought}\n\nIs the answer {choice}?"
    """The template of ``truth``, filled in with {prompt}, {thought} and {choice}; the reply is ``yes`` or ``no``."""
    yes: str = "Yes"
    """The word for "true" of ``truth``."""
    no: str = "No"
    """The word for "false" of ``truth``."""

    def worst(self, prompt: int, most: int) -> Bill:
        tries, offered = 1 + REPEATS if self.examples else 0, len(self.choices) or MOST
        choice = max(map(at_most, self.choices), default=prompt)
        thoughts = max(1, self.examples) + (self.by == "ratio")
        passes = thoughts * offered * (2 if self.by == "truth" else 1)
        given = max(at_most(self.template) + at_most(self.cue), at_most(self.statement) + at_most(self.yes + self.no))
        scored = passes * (prompt + given + self.think_tokens + 2 * choice)
        read = tries * (prompt + at_most(self.think)) + prompt
        return Bill(tries + 1, read, 0, tries * self.think_tokens + most, passes, scored)

    async def play(self, ep: Episode) -> Result:
        found = options(ep.problem["prompt"])
        choices = self.choices or tuple(found.values())
        ep.note(choices=len(choices))
        if not choices:
            return only(Node.whole((await ep.generate([Ask()]))[0]))
        refused, thoughts = await self._thoughts(ep)
        rows = await self._valued(ep, choices, thoughts)
        shares = shares_of(self.scores(rows)) if rows else None
        if shares is None:
            return only(refused or Node("", ended=True, finish="error", error="no likelihood of any choice was given"))
        place = shares.index(max(shares))
        letter = "" if self.choices else f"({list(found)[place]}) "
        return only(
            Node(f"{self.cue}{letter}{choices[place]}", ended=True, finish="stop", steps=1, score=shares[place])
        )

    async def _thoughts(self, ep: Episode) -> tuple[Node | None, list[str]]:
        """Return thoughts, and the call that was to give them where it was refused."""
        if not self.examples:
            return None, [""]
        ask = Ask(prompt=await asked(ep, self.think, count=str(self.examples)), max_tokens=self.think_tokens)
        [said], [lines] = await read_each(ep, [ask], lambda text: listed(text) or None)
        refused = Node.whole(said) if said.finish in ("error", "cap") else None
        return refused, (lines or [""])[: self.examples]

    async def _valued(self, ep: Episode, choices: Sequence[str], thoughts: Sequence[str]) -> list[list[float]]:
        """Return ln p of each choice behind each thought that the engine took (for ``ratio``, less that without)."""
        asking = [*thoughts, ""] if self.by == "ratio" else list(thoughts)
        pairs: list[tuple[str, str]] = []
        for thought in asking:
            begun = await asked(ep, self.template, thought=thought) + self.cue
            for choice in choices:
                if self.by == "truth":
                    begun = await asked(ep, self.statement, thought=thought, choice=choice)
                pairs += [(begun, self.yes), (begun, self.no)] if self.by == "truth" else [(begun, choice)]
        said = await ep.likelihood(pairs)
        logs = [None if one is None else one[0] / (max(1, len(one[1])) if self.per_token else 1) for one in said]
        if self.by == "truth":
            pairs_of = zip(logs[::2], logs[1::2], strict=True)
            logs = [
                None if yes is None or no is None else -math.log1p(math.exp(min(700.0, no - yes)))
                for yes, no in pairs_of
            ]
        table = [logs[at : at + len(choices)] for at in range(0, len(logs), len(choices))]
        whole = [[log for log in row if log is not None] for row in table]
        neutral = whole.pop() if self.by == "ratio" else [0.0] * len(choices)
        kept = [row for row in whole if len(row) == len(choices)]
        ep.note(thoughts=len(thoughts), dropped=len(thoughts) - len(kept))
        if len(neutral) < len(choices):
            return []
        low = math.log(FLOOR)
        if self.by != "ratio":
            return kept
        return [[max(low, log) - max(low, other) for log, other in zip(row, neutral, strict=True)] for row in kept]

    def scores(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return the logarithm that each choice is weighed by, given its logs behind each thought."""
        columns = list(zip(*rows, strict=True))
        if self.by == "mixture":
            means = [math.fsum(map(math.exp, column)) / len(column) for column in columns]
            return [math.log(mean) if mean > 0 else -math.inf for mean in means]
        if self.by in ("max", "min"):
            return [(max if self.by == "max" else min)(column) for column in columns]
        sums = [math.fsum(max(math.log(FLOOR), log) for log in column) for column in columns]
        return sums if self.by == "product" else [total / len(rows) for total in sums]
