"""Hedged sampling (Khairi et al. 2025, "When Life Gives You Samples"): one greedy draw, and warm ones beside it."""

from __future__ import annotations

import json
from typing import ClassVar

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import only
from operators.strategies.words import Ask, Bill, Node, Result


class Hedged(Strategy):
    """Draw one completion: the problem's first episode at temperature 0, all others at ``temperature``.

    The greedy row is marked (note ``greedy``): it is no draw like the others. Choose among a problem's rows with
    ``select.mbr`` or ``select.chops``. The paper's min_p of .05 is the sampling stage's to set.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("metadata",)

    temperature: float = Field(default=0.7, gt=0.0)
    temperatures: dict[str, float] = {}
    """Temperatures by the problem's language (``metadata.language``, where the stage gives it to the strategy)."""

    def worst(self, prompt: int, most: int) -> Bill:
        return Bill(1, prompt, 0, most)

    async def play(self, ep: Episode) -> Result:
        greedy = ep.index == 0
        language = json.loads(ep.problem.get("metadata") or "{}").get("language")
        warm = self.temperatures.get(str(language), self.temperature)
        [said] = await ep.generate([Ask(temperature=0.0 if greedy else warm)])
        ep.note(greedy=greedy)
        return only(Node.whole(said))
