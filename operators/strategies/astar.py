"""A* decoding: the path is continued whose cost so far and expected cost to the end are least together."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.search import Search
from operators.strategies.weighing import CLIP, distinct
from operators.strategies.words import Bill, Node, Result


class AStar(Search):
    """Expand the most promising path, ``branch`` children at a time, until ``width`` paths have ended.

    The cost to go of a path is 1 - score. A step costs what the score gains by it, the least that keeps estimates
    consistent, so a path's total is its first cost and all drops of its score. A gain is never rewarded: (.3, .99) has
    .70 and loses to (.35, .35) with .65; compare ``cost = best_first``.
    """

    version: ClassVar[int] = 1

    width: int = Field(default=1, ge=1)
    """How many paths have to end."""
    branch: int = Field(default=4, ge=1)
    """Children of each path that is expanded."""
    expansions: int = Field(default=64, ge=1)
    """Paths that are expanded at most; after them the most promising ones are written to their end by one call each."""
    cost: Literal["consistent", "best_first", "neglog"] = "consistent"
    """``best_first``: steps cost nothing. ``neglog``: the cost to go is -ln(score)."""
    batch: int = Field(default=1, ge=1)
    """How many paths are expanded at once."""

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        texts = self.branch * self.expansions + self.width
        written = self.opening(prompt, most, self.expansions, self.branch, self.width)
        return written + self.scoring(prompt, self.rule.most(most), texts)

    def to_go(self, node: Node) -> float:
        """Return the expected cost from a node to the end."""
        score = node.score or 0.0
        return -math.log(max(CLIP, score)) if self.cost == "neglog" else 1.0 - score

    def so_far(self, node: Node) -> float:
        """Return the cost of the way to a node."""
        before = node.parent
        if self.cost == "best_first" or before is None or before.parent is None:
            return 0.0
        return self.so_far(before) + max(0.0, self.to_go(before) - self.to_go(node))

    async def play(self, ep: Episode) -> Result:
        heap, made, left = [(0.0, 0, 0, 0, Node())], 1, self.expansions
        finals, refused = list[Node](), list[Node]()
        while heap and left and len(finals) < self.width and not ep.capped:
            popped: list[Node] = []
            while heap and len(popped) < min(self.batch, left) and len(finals) < self.width:
                node = heapq.heappop(heap)[-1]
                (finals if node.ended else popped).append(node)
            if len(finals) == self.width:
                break
            left -= len(popped)
            for children in await self.grown(ep, popped, self.branch):
                refused += [node for node in children if node.finish == "error"]
                for node in distinct([node for node in children if node.finish != "error"]):
                    total = round(self.so_far(node) + self.to_go(node), 12)
                    heapq.heappush(heap, (total, -node.steps, node.tokens, made, node))
                    made += 1
        open_ = [node for *_, node in sorted(heap)]
        finals = finals or [node for node in open_ if node.ended][: self.width]
        if finals or ep.capped or not open_:
            return self.result(ep, finals or open_[: self.width] or refused[: self.width])
        end = self.result(ep, await self.closed(ep, open_[: self.width]))
        return replace(end, ended_by="cap")
