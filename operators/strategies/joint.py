"""Joint thinking (HAOTIAN89/JointThinking): once with and once without thinking; where they differ, think again."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import fill
from operators.thinking import opens_thought


class Joint(Strategy):
    """Ask for an answer with thinking and for one without; if both agree that is it.

    Otherwise the model thinks once more, and its thought begins with both answers (not with how they came about).
    """

    version: ClassVar[int] = 1

    opening: str = "<think>\n"
    """What opens a thought; put before a completion where the prompt hasn't opened one."""
    closing: str = "\n</think>\n\n"
    """What closes an empty thought, for an answer without thinking."""
    short_tokens: int = Field(default=4096, ge=1)
    """The most tokens without thinking, as far as the sampling stage allows more."""
    doubt: str = (
        "I have two candidate answers so far: {first} and {second}. One of them is right, or both are wrong. Let me "
        "check them first; if both are wrong, I'll think it through anew and avoid the mistakes that led to them.\n\n"
    )
    """How the second thought begins: with {first} and {second}."""
    missing: str = "none"
    """What stands for an answer that couldn't be read, where the other could."""
    answers: Answers = Answers()
    """How answers are read."""

    def worst(self, prompt: int, most: int) -> Bill:
        given = sum(len(text.encode()) for text in (self.opening, self.closing, self.doubt, self.missing))
        read = 3 * (prompt + given) + 2 * most
        return Bill(3, read, 0, 2 * most + min(most, self.short_tokens))

    async def play(self, ep: Episode) -> Result:
        opening = "" if opens_thought(ep.prompt + ep.setting.lead) else self.opening
        short = min(self.short_tokens, ep.params.max_tokens)
        thought, quick = await self._said(ep, [(opening, None), (opening + self.closing, short)])
        found = self.answers.read(ep, [thought.text, quick.text])
        first, second = self.answers.classes(found)
        agreed = first is not None and first == second
        ep.note(rounds=1 if agreed else 2, unread=found.count(None))
        if agreed:
            return Result((thought,), 0, "agreed")
        written = [self.missing if answer is None else answer for answer in found]
        doubt = fill(self.doubt, {"first": written[0], "second": written[1]}) if any(found) else ""
        [again] = await self._said(ep, [(opening + doubt, None)])
        for node, answer in [(again, self.answers.read(ep, [again.text])[0]), (thought, found[0]), (quick, found[1])]:
            if answer is not None:
                return Result((node,), 0)
        return Result((thought,), None, "nothing")

    async def _said(self, ep: Episode, begun: list[tuple[str, int | None]]) -> list[Node]:
        said = await ep.generate([Ask(prefix=prefix, max_tokens=most) for prefix, most in begun])
        nodes = [Node.whole(one, slot) for slot, one in enumerate(said)]
        return [replace(node, text=prefix + node.text) for node, (prefix, _) in zip(nodes, begun, strict=True)]
