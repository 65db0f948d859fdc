"""Particle Gibbs: particle filters in turn, each of which holds paths of the one before fixed (Puri et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from operators.strategies.episode import Episode
from operators.strategies.particles import Particles
from operators.strategies.weighing import multinomial, softmax
from operators.strategies.words import Bill, Node, Result


class Gibbs(Particles):
    """Run ``sweeps`` particle filters; ``references`` of one are held fixed in the next (conditional SMC).

    At each depth a reference weighs what it weighed when it was as long, and a free particle may become a copy of it,
    cut to that depth. (The published codes give a reference the weight of another depth.)
    """

    version: ClassVar[int] = 1

    sweeps: int = Field(default=2, ge=1)
    """How many filters are run, one after the other."""
    references: int = Field(default=1, ge=1)
    """Paths of a sweep that the next one holds fixed, drawn by their last weights."""
    keep: Literal["all", "last"] = "all"
    """Whose particles are rows: all sweeps', or the last one's. The chosen one is always of the last sweep."""

    @model_validator(mode="after")
    def _some_are_free(self) -> Gibbs:
        if self.references >= self.width:
            raise ValueError("gibbs: references must be fewer than width")
        if self.resampling != "multinomial" or self.ended != "resampled":
            raise ValueError("gibbs: only resampling=multinomial and ended=resampled draw from what they should")
        return self

    @property
    def rows(self) -> int:
        return self.width * (self.sweeps if self.keep == "all" else 1)

    def worst(self, prompt: int, most: int) -> Bill:
        free = self.width - self.references
        return self.walking(prompt, most, self.width + (self.sweeps - 1) * free)

    async def play(self, ep: Episode) -> Result:
        fixed: list[Node] = []
        rows: list[Node] = []
        drawn: int | None = None
        for sweep in range(self.sweeps):
            free, depth = await self._sweep(ep, sweep, fixed)
            particles = [*free, *fixed]
            rows = rows + particles if self.keep == "all" else particles
            logs = self.tempered(particles, depth, [0.0] * self.width)
            drawn = self.drawn(ep, logs)
            if ep.capped:
                break
            picked = multinomial(ep, softmax(ep, logs), self.references, f"reference/{sweep}")
            fixed = [particles[place] for place in picked]
        first = max(0, len(rows) - self.width)
        last = self.result(ep, rows[first:], drawn)
        before = self.result(ep, rows[:first], 0).finals if first else ()
        return Result((*before, *last.finals), None if last.chosen is None else first + last.chosen, last.ended_by)

    async def _sweep(self, ep: Episode, sweep: int, fixed: Sequence[Node]) -> tuple[list[Node], int]:
        """Return the free particles of a sweep, and how deep it went."""
        free = [child for [child] in await self.grown(ep, [Node()] * (self.width - len(fixed)))]
        depth = 1
        while not ep.capped and (any(not node.ended for node in free) or any(one.steps > depth for one in fixed)):
            pool = [*free, *(_at(one, depth) for one in fixed)]
            shares = self.shares(ep, self.tempered(pool, depth, [0.0] * len(pool)))
            free = [pool[place] for place in multinomial(ep, shares, len(free), f"{sweep}/resample/{depth}")]
            live = [slot for slot, node in enumerate(free) if not node.ended]
            if live:
                grown = await self.grown(ep, [free[slot] for slot in live], slots=live)
                for slot, [child] in zip(live, grown, strict=True):
                    free[slot] = child
            depth += 1
        return free, depth


def _at(node: Node, depth: int) -> Node:
    """Return a path as it was at a depth."""
    while node.steps > depth and node.parent is not None:
        node = node.parent
    return node
