"""REBASE: a tree whose nodes get children in proportion to their rewards (Wu et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.search import Search
from operators.strategies.steps import StepRule
from operators.strategies.weighing import ranked
from operators.strategies.words import Bill, Node, Result


class Rebase(Search):
    """Share ``width`` continuations among the nodes of a level by exp(score / tau); an ended node takes one of them."""

    version: ClassVar[int] = 1

    rule: StepRule = StepRule(step_tokens=256, max_steps=25)
    width: int = Field(default=16, ge=1)
    """Continuations of a level, and rows of an episode."""
    tau: float = Field(default=0.2, gt=0.0)
    """The temperature by which scores share them: less gives more to the best."""
    keep_share: float = Field(default=1.0, gt=0.0, le=1.0)
    """The share of a level's nodes that may have children at all: the best of them."""

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        return self.walking(prompt, most, self.width)

    async def play(self, ep: Episode) -> Result:
        level, counts, remaining = [Node()], [self.width], self.width
        finals: list[Node] = []
        while level:
            children = [child for one in await self.grown(ep, level, counts) for child in one]
            ended = [node for node in children if node.ended or ep.capped]
            finals, remaining = finals + ended, remaining - len(ended)
            live = [node for node in children if not (node.ended or ep.capped)]
            live = [node for node in live if node.score is not None] or live
            order = [live[place] for place in ranked(live)]
            order = order[: math.ceil(self.keep_share * len(order))]
            shared = allot([node.score for node in order], remaining, self.tau)
            pairs = [(node, count) for node, count in zip(order, shared, strict=True) if count]
            level, counts = [node for node, _ in pairs], [count for _, count in pairs]
        return self.result(ep, finals)


def allot(scores: Sequence[float | None], count: int, tau: float) -> list[int]:
    """Return how many of ``count`` children each node gets, the best node first: in all exactly ``count``.

    Each in turn gets its share of what is left, rounded up (with a tolerance, so that equal scores share evenly).
    """
    top = max((score for score in scores if score is not None), default=0.0)
    odds = [math.exp(((top if score is None else score) - top) / tau) for score in scores]
    total, given = sum(odds), list[int]()
    for place, own in enumerate(odds):
        last = place == len(odds) - 1 or total <= 0.0
        given.append(count if last else min(count, math.ceil(count * own / total - 1e-9)))
        count, total = count - given[-1], total - own
    return given
