"""Monte Carlo tree search led by a scorer: walks from the prompt to an end, by PUCT (openr's form)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.search import LookingAhead
from operators.strategies.steps import StepRule, grow
from operators.strategies.tree import Place, promise
from operators.strategies.weighing import distinct, multinomial, softmax
from operators.strategies.words import Bill, Node, Result


class Mcts(LookingAhead):
    """Walk ``paths`` times down to an end, each time through the children that promise most.

    A place that is reached for the first time is expanded: ``branch`` completions of one call, of which texts that were
    cut by length, and repeats, are dropped. The end's score is the value of all places on the way.
    """

    version: ClassVar[int] = 1

    rule: StepRule = StepRule(max_steps=50)
    paths: int = Field(default=8, ge=1)
    """Walks from the start to an end, and rows of an episode."""
    branch: int = Field(default=4, ge=1)
    """Completions that are asked for where a place is expanded."""
    c_base: float = Field(default=19652.0, gt=0.0)
    """PUCT's base: how slowly the weight of the unknown grows with visits (Silver et al. 2017)."""
    c_init: float = Field(default=1.25, ge=0.0)
    """PUCT's weight of the unknown at the first visits."""
    prior: Literal["logprob", "uniform"] = "logprob"
    """What a child promises beforehand: its share of exp(mean log-prob), where the engine tells it, or the same."""
    first: Literal["value", "prior"] = "value"
    """How a place's child is chosen for the first time: by its score, or drawn by its prior."""
    tries: int = Field(default=3, ge=1)
    """How often a place is expanded where all is dropped; one without children is worth 0."""
    scheme: Literal["walks", "moves"] = "walks"
    """``moves``: after ``paths`` walks the start moves on to the child with most visits, and so on to an end."""

    @property
    def rows(self) -> int:
        return self.paths if self.scheme == "walks" else 1

    def worst(self, prompt: int, most: int) -> Bill:
        walks = self.paths * self.tries * (1 if self.scheme == "walks" else self.rule.max_steps)
        return self.walking(prompt, most, walks, self.branch, self.lookahead)

    async def play(self, ep: Episode) -> Result:
        start, ends, walks = Place(Node()), list[Node](), 0
        while not start.node.ended and not ep.capped:
            for _ in range(self.paths):
                ends.append(await self._walk(ep, start, walks))
                walks += 1
            if self.scheme == "walks" or not start.children:
                break
            start = max(start.children, key=lambda place: place.visits)
        moved = self.scheme == "moves" and start.node.ended
        return self.result(ep, [start.node] if moved else distinct(ends)[: self.rows])

    async def _walk(self, ep: Episode, start: Place, number: int) -> Node:
        """Go down to an end, and tell all places on the way what it is worth."""
        way = [start]
        while not way[-1].node.ended and not ep.capped:
            here = way[-1]
            if here.children is None:
                here.children = await self._expanded(ep, here.node)
            if not here.children:
                break
            if here.visits == 0 and self.first == "prior":
                shares = [place.prior for place in here.children]
                way.append(here.children[multinomial(ep, shares, 1, f"prior/{number}/{len(way) - 1}")[0]])
            else:
                way.append(max(here.children, key=lambda place: promise(here, place, self.c_base, self.c_init)))
        end = way[-1]
        value = end.value if end.node.ended else 0.0
        for place in way:
            place.visits, place.total = place.visits + 1, place.total + value
        return end.node if end.node.ended else end.node.end("cap" if ep.capped else "unfinished").scored(value)

    async def _expanded(self, ep: Episode, node: Node) -> list[Place]:
        refused: list[Node] = []
        for _ in range(self.tries):
            [children] = await grow(ep, [node], self.rule, self.branch)
            refused = [child for child in children if child.finish == "error"][:1]
            new = [child for child in children if not child.cut and child.text.strip() != node.text.strip()]
            kept = await self.judged(ep, distinct([child for child in new if child.finish not in ("error", "cap")]))
            if kept or ep.capped:
                known = self.prior == "logprob" and all(child.step_logprob is not None for child in kept)
                priors = softmax(ep, [child.step_logprob if known else 0.0 for child in kept]) if kept else []
                return [Place(child, prior) for child, prior in zip(kept, priors, strict=True)]
        return [Place(child) for child in refused]
