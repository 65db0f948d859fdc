"""Beam search over steps, led by a scorer (Snell et al. 2024; search-and-learn)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from operators.strategies.episode import Episode
from operators.strategies.search import LookingAhead
from operators.strategies.weighing import distinct, preferred, ranked
from operators.strategies.words import Bill, Node, Result


class Beam(LookingAhead):
    """Write ``width`` paths a step at a time; keep the best ``width / beam`` of them and continue each ``beam`` times.

    Follows search-and-learn, but for one thing: with ``lookahead`` a path is worth what its continuation is.
    """

    version: ClassVar[int] = 1

    width: int = Field(default=16, ge=1)
    beam: int = Field(default=4, ge=1)
    """Continuations of each path that is kept."""
    distinct: bool = True
    """Keep only the first of several paths with the same text."""
    ended: Literal["refill", "kept", "shrink"] = "refill"
    """What becomes of the place of a path that has ended: it is filled again, so that more than ``width`` may end, of
    which the best are rows (search-and-learn); the path keeps it and is copied as others are (its_hub); or it is gone
    (openr)."""

    @model_validator(mode="after")
    def _even(self) -> Beam:
        if self.width % self.beam:
            raise ValueError(f"beam: {self.width} paths aren't a multiple of {self.beam} continuations")
        return self

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        return self.walking(prompt, most, self.width, ahead=self.lookahead)

    async def play(self, ep: Episode) -> Result:
        room = self.width // self.beam
        frontier, done = [Node()] * self.width, list[Node]()
        while True:
            live = [slot for slot, node in enumerate(frontier) if not node.ended]
            grown = await self.grown(ep, [frontier[slot] for slot in live], slots=live)
            for slot, [child] in zip(live, grown, strict=True):
                frontier[slot] = child
            if ep.capped:
                break
            if self.ended == "refill":
                done += [node for node in frontier if node.ended]
            pool = [node for node in frontier if not node.ended or self.ended != "refill"]
            pool = distinct(pool) if self.distinct else pool
            kept = [pool[place] for place in ranked(pool)[:room]]
            if self.ended == "shrink":
                done += [node for node in kept if node.ended]
                kept = [node for node in kept if not node.ended]
                room = min(room, len(kept))
            if all(node.ended for node in kept):
                break
            size = room * self.beam
            frontier = (kept * size)[:size]
        finals = [*done, *frontier] if ep.capped or self.ended == "kept" else done
        return self.result(ep, [finals[place] for place in sorted(preferred(finals)[: self.width])])
