"""Tree of thoughts, breadth first (Yao et al. 2023): propose thoughts, evaluate them, keep some, and so on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.proposing import Proposing
from operators.strategies.weighing import distinct, multinomial, ranked
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import fill


class TotBfs(Proposing):
    """Keep ``keep`` texts of each level, of ``branch`` continuations of each one kept before."""

    version: ClassVar[int] = 1

    evaluate: Literal["value", "vote"] = "value"
    """By the scorer, or by votes of which each sees all candidates and names one."""
    votes: int = Field(default=5, ge=1)
    """How many votes are taken on the candidates of a level."""
    keep: int = Field(default=5, ge=1)
    """How many texts of a level are kept."""
    draw: bool = False
    """Draw those that are kept, in proportion to their values and with replacement, instead of taking the best."""
    vote_template: str = (
        "Problem: {prompt}\n\nHere are {count} beginnings of a solution.\n\n{candidates}\n\nWhich one is the most "
        "promising? Think briefly. End with one line: BEST: its number"
    )
    """A template, filled in with {prompt}, {count} and {candidates}."""
    vote_tokens: int = Field(default=256, ge=1)
    """The most tokens of a vote."""

    @property
    def rows(self) -> int:
        return self.keep

    @property
    def asks(self) -> tuple[str, ...]:
        return super().asks if self.evaluate == "value" else ()

    def worst(self, prompt: int, most: int) -> Bill:
        texts, levels, longest = self.keep * self.branch, self.rule.max_steps, self.longest(most)
        proposed = self.proposing(prompt, most, self.keep * levels)
        if self.evaluate == "value":
            return proposed + self.scoring(prompt, longest, levels * texts)
        read = prompt + at_most(self.vote_template) + texts * (longest + 4)
        return proposed + Bill(self.votes, self.votes * read, 0, self.votes * self.vote_tokens).times(levels)

    async def play(self, ep: Episode) -> Result:
        kept = [Node()]
        for level in range(self.rule.max_steps):
            live = [node for node in kept if not node.ended]
            if not live or ep.capped:
                break
            children = iter(await self.proposed(ep, live))
            candidates = [child for node in kept for child in ([node] if node.ended else next(children))]
            refused = [node for node in candidates if node.finish == "error"]
            candidates = distinct([node for node in candidates if node.finish != "error"])
            if not candidates:
                kept = kept if level else refused[: self.keep]
                break
            valued = await self._valued(ep, candidates)
            if self.draw:
                values = [node.score or 0.0 for node in valued]
                total = sum(values)
                shares = [value / total for value in values] if total > 0 else [1 / len(values)] * len(values)
                places = multinomial(ep, shares, self.keep, f"keep/{level}")
            else:
                places = ranked(valued)[: self.keep]
            kept = [valued[place] for place in places]
        return self.result(ep, kept)

    async def _valued(self, ep: Episode, candidates: Sequence[Node]) -> list[Node]:
        if self.evaluate == "value":
            return await self.judged(ep, candidates)
        listed = "\n\n".join(f"{number}. {node.text}" for number, node in enumerate(candidates, 1))
        places = {"prompt": ep.problem["prompt"], "count": str(len(candidates)), "candidates": listed}
        prompt = await ep.render([{"role": "user", "content": fill(self.vote_template, places)}])
        said = await ep.generate([Ask(prompt=prompt, max_tokens=self.vote_tokens)] * self.votes)
        named = [re.findall(r"(?i)BEST\W*?(\d+)", one.text) for one in said]
        choices = [int(numbers[-1]) for numbers in named if numbers]
        return [replace(node, score=choices.count(number) / self.votes) for number, node in enumerate(candidates, 1)]
