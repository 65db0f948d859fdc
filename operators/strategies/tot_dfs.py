"""Tree of thoughts, depth first (Yao et al. 2023): follow the best thought, go back where nothing can come of it."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.proposing import Proposing
from operators.strategies.weighing import distinct, ranked
from operators.strategies.words import Bill, Node, Result


class TotDfs(Proposing):
    """Go down through the best child first, until ``paths`` texts have ended or ``limit`` were continued."""

    version: ClassVar[int] = 1

    branch: int = Field(default=3, ge=1)
    paths: int = Field(default=3, ge=1)
    """How many texts have to end."""
    limit: int = Field(default=100, ge=1)
    """Texts that are continued at most; where none has ended by then, the best one is written to its end."""
    threshold: float | None = Field(default=0.0, ge=0.0, le=1.0)
    """A text that is worth this or less isn't continued; null: all are."""
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    """The share of a text's children that may be continued: the best of them."""
    worth: Literal["last", "mean"] = "last"
    """What is chosen by: the last score of a text, or the mean of those along its path."""

    @property
    def rows(self) -> int:
        return self.paths

    def worst(self, prompt: int, most: int) -> Bill:
        closed = self.opening(prompt, most, 0, 0, 1)
        scores = self.scoring(prompt, self.longest(most), self.limit * self.branch + 1)
        return self.proposing(prompt, most, self.limit) + closed + scores

    async def play(self, ep: Episode) -> Result:
        stack, seen, finals = [Node()], list[Node](), list[Node]()
        visited = 0
        while stack and visited < self.limit and len(finals) < self.paths and not ep.capped:
            node = stack.pop()
            if node.ended:
                finals.append(node)
                continue
            visited += 1
            [children] = await self.proposed(ep, [node])
            children = await self.judged(ep, distinct(children))
            seen += children
            order = [children[place] for place in ranked(children)]
            stack += reversed([child for child in order[: math.ceil(self.share * len(order))] if self._promises(child)])
        if not finals and seen:
            top = seen[ranked(seen)[0]]
            finals = [top] if top.ended or ep.capped else await self.closed(ep, [top])
        if self.worth == "mean" and finals:
            order = ranked([node.scored(_mean(node)) for node in finals])
            return self.result(ep, finals, order[0])
        return self.result(ep, finals)

    def _promises(self, node: Node) -> bool:
        return node.finish != "error" and (self.threshold is None or (node.score or 0.0) > self.threshold)


def _mean(node: Node) -> float | None:
    """Return the mean of the scores along a path, None where its end has none."""
    values: list[float] = []
    here: Node | None = node
    while here is not None:
        values += [] if here.score is None else [here.score]
        here = here.parent
    return None if node.score is None else sum(values) / len(values)
