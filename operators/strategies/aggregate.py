"""Recursive self-aggregation (RSA: Venkatraman et al. 2025; PaCoRe): answers made out of answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.search import Scored
from operators.strategies.talking import BETWEEN, retold, spoken_part, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate


class Aggregate(Scored):
    """Write a round of answers; each answer of a later round sees some of the round before, and is one of its own.

    RSA is ``widths=[16] * 10, show=4``; PaCoRe at its high setting ``widths=[32, 4, 1], show=null``. There is no scorer
    on the way. Temperature and top_p are the stage's (both codes have 1).
    """

    version: ClassVar[int] = 1

    widths: tuple[int, ...] = Field(default=(16, 16, 16), min_length=1)
    """Answers of each round; those of the last are the rows."""
    show: int | None = Field(default=4, ge=1)
    """Answers that each later answer sees, drawn without replacement; null: all, in an order that is drawn a round."""
    select: Literal["best", "majority", "weighted"] = "majority"
    template: PromptTemplate = (
        "{prompt}\n\nThese are attempts at the problem, any of which may be wrong or unfinished:\n\n{messages}\n\nTake "
        "what is right in them, leave what isn't, and write a complete solution of your own with its final answer."
    )
    """A template, filled in with {prompt} and {messages}."""

    @property
    def rows(self) -> int:
        return self.widths[-1]

    @property
    def asks(self) -> tuple[str, ...]:
        return () if self.select == "majority" else super().asks

    def worst(self, prompt: int, most: int) -> Bill:
        shown = [width if self.show is None else min(self.show, width) for width in self.widths[:-1]]
        later = zip(self.widths[1:], shown, strict=True)
        read = self.widths[0] * prompt + sum(
            width * (prompt + at_most(self.template) + count * (most + 8)) for width, count in later
        )
        written = Bill(sum(self.widths), read, 0, sum(self.widths) * most)
        return written if self.select == "majority" else written + self.scoring(prompt, most, self.rows)

    async def play(self, ep: Episode) -> Result:
        finals: list[Node] = []
        for number, width in enumerate(self.widths):
            messages = [text for node in there(finals) if (text := spoken_part(node.text))]
            asks = [await self._ask(ep, messages, number, slot) for slot in range(width)]
            new = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate(asks))]
            if ep.capped and finals:
                break
            finals = new
            named = self.answers.classes(self.answers.read(ep, [node.text for node in finals]))
            ep.note(**{f"answers_{number}": len({name for name in named if name is not None})})
        finals = finals[: self.rows]
        return self.result(ep, finals if self.select == "majority" else await self.scorer.judge(ep, finals))

    async def _ask(self, ep: Episode, messages: list[str], number: int, slot: int) -> Ask:
        if not messages:
            return Ask()
        count = len(messages) if self.show is None else min(self.show, len(messages))
        places = shuffled(ep, len(messages), f"pick/{number}/{0 if self.show is None else slot}")[:count]
        shown = BETWEEN.join(f"{place}. {messages[pick]}" for place, pick in enumerate(places, 1))
        return Ask(prompt=await ep.render(retold(ep, self.template, messages=shown)))


def shuffled(ep: Episode, count: int, name: str) -> list[int]:
    """Return the numbers below ``count`` in an order drawn by ``name/0``, ``name/1``, ... (Fisher and Yates)."""
    order = list(range(count))
    for place in range(count - 1):
        other = place + int(ep.uniform(f"{name}/{place}") * (count - place))
        order[place], order[other] = order[other], order[place]
    return order
