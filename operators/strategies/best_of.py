"""Best of N: independent completions, of which one is chosen. Every search is compared with it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.search import Scored
from operators.strategies.words import Ask, Bill, Node, Result


class BestOf(Scored):
    """Draw ``width`` completions and choose one by its score, or by a vote of their answers."""

    version: ClassVar[int] = 1

    width: int = Field(default=16, ge=1)
    """How many completions one episode draws."""

    @property
    def rows(self) -> int:
        return self.width

    @property
    def asks(self) -> tuple[str, ...]:
        return () if self.select == "majority" else super().asks

    def worst(self, prompt: int, most: int) -> Bill:
        written = Bill(self.width, self.width * prompt, 0, self.width * most)
        return written if self.select == "majority" else written + self.scoring(prompt, most, self.width)

    async def play(self, ep: Episode) -> Result:
        said = await ep.generate([Ask() for _ in range(self.width)])
        finals = [Node.whole(one, slot) for slot, one in enumerate(said)]
        return self.result(ep, finals if self.select == "majority" else await self.scorer.judge(ep, finals))
