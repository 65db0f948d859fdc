"""A strategy for tests: rounds of steps, each scored, the best ones continued, with two branches in the end."""

from __future__ import annotations

from pydantic import Field

from operators.engine import ScoreRequest
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.words import Ask, Bill, Node, Result


class Rounds(Strategy):
    """Grow ``width`` texts for ``rounds`` rounds; after each, every second one starts from the better half."""

    version = 1
    optional_roles = ("scorer",)

    width: int = Field(default=4, ge=2)
    rounds: int = 3
    fails: bool = False

    @property
    def rows(self) -> int:
        return self.width

    def worst(self, prompt: int, most: int) -> Bill:
        calls = self.rounds * self.width + 2
        read = calls * (prompt + self.rounds * most)
        return Bill(calls, read, 0, calls * most, self.rounds * self.width, self.rounds * self.width * (read + most))

    async def play(self, ep: Episode) -> Result:
        texts = [""] * self.width
        nodes: list[Node] = []
        for _ in range(self.rounds):
            said = await ep.generate([Ask(prefix=text, max_tokens=ep.params.max_tokens) for text in texts])
            nodes = [
                Node(text + " " + one.text, tokens=one.tokens, prompt_tokens=one.prompt_tokens, finish=one.finish)
                for text, one in zip(texts, said, strict=True)
            ]
            scores = await ep.score([ScoreRequest(ep.prompt, node.text) for node in nodes], "scorer")
            nodes = [node.scored(None if one is None else one.score) for node, one in zip(nodes, scores, strict=True)]
            order = sorted(range(self.width), key=lambda slot: (-(nodes[slot].score or 0.0), slot))
            half = order[: self.width // 2]
            texts = [nodes[half[slot % len(half)]].text for slot in range(self.width)]
            if self.fails:
                raise KeyError("a slip")

        async def more(branch: Episode) -> str:
            [said] = await branch.generate([Ask(prefix=texts[0])])
            return said.text

        ends = await ep.together({"left": more, "right": more})
        ep.note(ends=len(set(ends.values())))
        best = max(range(self.width), key=lambda slot: (nodes[slot].score or 0.0, -slot))
        return Result(tuple(nodes), best)


class Oracular(Strategy):
    """Says that it looked at the answer on its way."""

    version = 1

    @property
    def shows_answers(self) -> bool:
        return True

    def worst(self, prompt: int, most: int) -> Bill:
        return Bill(1, prompt, 0, most)

    async def play(self, ep: Episode) -> Result:
        [said] = await ep.generate([Ask()])
        return Result((Node.whole(said),), 0)
