"""Best of N: independent completions, of which a scorer chooses one. Every search is compared with it."""

from __future__ import annotations

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.words import Ask, Bill, Node, Result


class BestOf(Strategy):
    """Draw ``width`` completions and choose the one that the scorer likes best."""

    version = 1

    width: int = Field(default=16, ge=1)
    """Completions of one episode."""

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        return Bill(self.width, self.width * prompt, 0, self.width * most)

    async def play(self, ep: Episode) -> Result:
        said = await ep.generate([Ask() for _ in range(self.width)])
        return Result(tuple(Node.whole(one, slot) for slot, one in enumerate(said)), 0)
