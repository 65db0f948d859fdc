"""Diverse verifier tree search: independent trees, each greedy by its scorer's word (search-and-learn)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from operators.strategies.episode import Episode
from operators.strategies.search import LookingAhead
from operators.strategies.weighing import ranked
from operators.strategies.words import Bill, Node, Result


class Dvts(LookingAhead):
    """Grow ``width / beam`` trees: each is continued ``beam`` times, and goes on with the best child.

    Trees never share a node, so they are independent draws, also of a search with fewer of them. By default an episode
    is one tree, and what counts draws counts trees.
    """

    version: ClassVar[int] = 1

    width: int = Field(default=4, ge=1)
    """Paths of all trees together."""
    beam: int = Field(default=4, ge=1)
    """Continuations of a tree at each step."""
    siblings: bool = False
    """Rows are all children of each tree's last step (as published), and not its best one alone."""

    @model_validator(mode="after")
    def _even(self) -> Dvts:
        if self.width % self.beam:
            raise ValueError(f"dvts: {self.width} paths aren't a multiple of {self.beam} continuations")
        return self

    @property
    def trees(self) -> int:
        return self.width // self.beam

    @property
    def rows(self) -> int:
        return self.width if self.siblings else self.trees

    def worst(self, prompt: int, most: int) -> Bill:
        return self.walking(prompt, most, self.trees, self.beam, self.lookahead)

    async def play(self, ep: Episode) -> Result:
        trees = [Node()] * self.trees
        last = [[Node()]] * self.trees
        while live := [slot for slot, node in enumerate(trees) if not node.ended and not ep.capped]:
            grown = await self.grown(ep, [trees[slot] for slot in live], self.beam, live)
            for slot, children in zip(live, grown, strict=True):
                last[slot] = children
                trees[slot] = children[ranked(children, shorter=True)[0]]
        return self.result(ep, [node for children in last for node in children] if self.siblings else trees)
