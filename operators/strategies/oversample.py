"""Draw more and hotter than is kept (Hou et al. 2025, T1, which does so in training): a diverse choice of draws."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator
from rapidfuzz.distance import Levenshtein

from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import there
from operators.strategies.words import Ask, Bill, Node, Result

COMPARED = 512
"""Characters of a text that are compared."""


class Oversample(Strategy):
    """Draw ``draws`` completions and keep ``keep`` of them: always the one that is farthest from those kept before.

    Far is another answer first, then a large normalised edit distance of the first 512 characters; ties go to the
    first. Rows aren't draws from the model, so nothing that counts draws may count them; plain sampling that keeps all,
    and a choice later (``synthesize.choose``), is usually better.
    """

    version: ClassVar[int] = 1

    draws: int = Field(default=64, ge=1)
    """How many completions are drawn."""
    keep: int = Field(default=16, ge=1)
    """How many of them become rows."""
    temperature: float | None = Field(default=1.2, ge=0.0)
    """The temperature of the draws; null: that of the sampling stage."""
    answers: Answers = Answers()
    """How answers are read."""

    @model_validator(mode="after")
    def _keeps_some(self) -> Oversample:
        if self.keep > self.draws:
            raise ValueError(f"keep: {self.keep} of {self.draws} draws")
        return self

    @property
    def rows(self) -> int:
        return self.keep

    @property
    def cautions(self) -> tuple[str, ...]:
        return ("rows of strategy 'oversample' are chosen for being different: they are no draws from the model",)

    def worst(self, prompt: int, most: int) -> Bill:
        return Bill(1, prompt, 0, most).times(self.draws)

    async def play(self, ep: Episode) -> Result:
        said = await ep.generate([Ask(temperature=self.temperature)] * self.draws)
        drawn = [Node.whole(one, slot) for slot, one in enumerate(said)]
        drawn = there(drawn) or drawn[:1]
        named = self.answers.classes(self.answers.read(ep, [node.text for node in drawn]))
        kept = spread([node.text for node in drawn], named, self.keep)
        ep.note(answers=len({name for name in named if name is not None}))
        votes = self.answers.vote(ep, drawn, [1.0] * len(drawn))
        finals = [drawn[place] for place in kept]
        if not there(finals):
            return Result(tuple(finals), None, "nothing")
        return Result(tuple(finals), next((at for at, place in enumerate(kept) if place in votes), 0))


def spread(texts: list[str], names: list[str | None], count: int) -> list[int]:
    """Return the places of ``count`` texts, each the farthest from all before it; the first one begins."""
    kept = [0]
    near = [(True, 1.0)] * len(texts)
    while len(kept) < min(count, len(texts)):
        last = kept[-1]
        for place, text in enumerate(texts):
            edit = Levenshtein.normalized_distance(text[:COMPARED], texts[last][:COMPARED])
            near[place] = min(near[place], (names[place] != names[last], edit))
        kept.append(max((place for place in range(len(texts)) if place not in kept), key=lambda place: near[place]))
    return kept
