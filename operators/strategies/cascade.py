"""A cascade of two models (Chen et al. 2023, "FrugalGPT"; Yue et al. 2024): the small one first, the large in doubt."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.scorers import Scorer, Truth
from operators.strategies.search import Scored
from operators.strategies.talking import conversation, there
from operators.strategies.words import Ask, Bill, Node, Result

LARGE = "large"


class Cascade(Scored):
    """Take the small model's answer where enough of its samples agree, or where it scores enough; else ask the large.

    It pays against asking the large model alone where the share that is taken is above ``samples`` times the ratio of
    the two models' prices. A row's score is what was compared with ``threshold``; from those of a run with
    ``threshold=0`` on problems whose answers are known, ``gristmill threshold`` finds the one that keeps a wanted
    accuracy, by those that aren't held out (``operators.strategies.thresholds``).
    """

    version: ClassVar[int] = 1
    roles = (LARGE,)

    samples: int = Field(default=3, ge=1)
    """How many samples the small model draws, which is the stage's own engine."""
    by: Literal["agreement", "score"] = "agreement"
    """The share of the samples that give the most frequent answer, or the scorer's value of the chosen one: ``truth``;
    ``certainty`` (the mean log-prob); ``verdict`` (do tests pass: they may be known beforehand)."""
    scorer: Scorer = Truth()
    select: Literal["best", "majority", "weighted"] = "majority"
    threshold: float = Field(default=2 / 3, ge=0.0, le=1.0)
    large_samples: int = Field(default=1, ge=1)
    """How many samples the large model draws; of several the most frequent answer is taken."""
    show_draft: bool = False
    """The large model sees the small one's solution."""
    draft: str = "That is a colleague's solution, which may be wrong. Give a complete solution of your own."
    """What the large model is told behind the draft."""

    @property
    def asks(self) -> tuple[str, ...]:
        return (*self.roles, *(super().asks if self._scores else ()))

    @property
    def _scores(self) -> bool:
        return self.by == "score" or self.select != "majority"

    @property
    def shows_answers(self) -> bool:
        return self._scores and self.scorer.oracle

    @property
    def cautions(self) -> tuple[str, ...]:
        return super().cautions if self._scores else ()

    def worst(self, prompt: int, most: int) -> Bill:
        small = Bill(self.samples, self.samples * prompt, 0, self.samples * most)
        read = prompt + (most + at_most(self.draft) + 16 if self.show_draft else 0)
        large = Bill(1, read, 0, most).times(self.large_samples)
        return small + large + (self.scoring(prompt, most, self.samples) if self._scores else Bill())

    async def play(self, ep: Episode) -> Result:
        drafts = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate([Ask()] * self.samples))]
        if self._scores:
            drafts = await self.scorer.judge(ep, drafts)
        value, draft = self._sure(ep, drafts)
        accepted = bool(there([draft])) and value >= self.threshold - 1e-9
        ep.note(accepted=accepted)
        if accepted:
            return Result((draft.scored(value),), 0, "agreed")
        told = (draft.text, self.draft) if self.show_draft and draft.text else ()
        prompt = await ep.render(conversation(ep, *told), LARGE)
        asks = [Ask(prompt=prompt, role=LARGE, prefix=ep.setting.lead)] * self.large_samples
        large = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate(asks))]
        finals = there(large) or there([draft]) or large
        places = self.answers.vote(ep, finals, [1.0] * len(finals)) or [0]
        return self.result(ep, [finals[places[0]].scored(value)], 0 if there(finals) else None)

    def _sure(self, ep: Episode, drafts: list[Node]) -> tuple[float, Node]:
        """Return how sure the small model is, and of what."""
        said = there(drafts)
        if not said:
            return 0.0, drafts[0]
        place = self.chosen(ep, said) or 0
        if self.by == "score":
            return said[place].score or 0.0, said[place]
        agreeing = self.answers.vote(ep, said, [1.0] * len(said))
        return len(agreeing) / self.samples, said[place]
