"""X-MBR (Khairi et al. 2025, "When Life Gives You Samples"): Bayes risk with evidence in another language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import REPEATS, asked, read_each, retold, tagged, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

JUDGE = "judge"
ORDER, BETA = 6, 2.0
"""Of chrF: the longest n-grams of characters, and the weight of recall (Popovic 2015)."""


class XMbr(Strategy):
    """Draw candidates, and answers in another language beside them; choose the candidate that agrees best with all.

    A candidate's score is the mean utility with the other candidates and the evidence; with ``evidence_weight`` the
    mean over the candidates plus so many times that over the evidence. Rows are the candidates; the evidence is in the
    calls alone. The first candidate is greedy, as in hedged sampling.
    """

    version: ClassVar[int] = 1
    optional_roles = (JUDGE,)

    candidates: int = Field(default=5, ge=1)
    """How many completions one is chosen from."""
    evidence: int = Field(default=3, ge=0)
    """How many completions in the other language serve as evidence."""
    greedy: bool = True
    """Draw the first candidate at temperature 0."""
    temperature: float = Field(default=0.7, gt=0.0)
    """The temperature of all candidates and evidence; with ``greedy``, of all but the first candidate."""
    utility: Literal["exact", "chrf", "judge"] = "judge"
    """The same answer; n-grams of characters, which say nothing between two scripts; or a judge's mark."""
    evidence_weight: float | None = Field(default=None, ge=0.0)
    """What the evidence weighs against the candidates; null: each text weighs the same."""
    other: PromptTemplate = "{prompt}\n\nAnswer in English (if the problem is in English: in Chinese)."
    """How evidence is asked for."""
    judging: PromptTemplate = (
        "Problem: {prompt}\n\nAnswer 1:\n{first}\n\nAnswer 2:\n{second}\n\nHow much do these answers, in whatever "
        "language, say the same? End with a mark from 0 to 10 in <mark></mark>."
    )
    """A template, filled in with {prompt}, {first} and {second}."""
    judge_tokens: int = Field(default=128, ge=1)
    """The most tokens of a judge's mark."""
    answers: Answers = Answers()
    """How answers are read."""

    @property
    def rows(self) -> int:
        return self.candidates

    def all_greedy(self, temperature: float) -> bool:
        return self.greedy and self.candidates == 1 and self.evidence == 0

    def worst(self, prompt: int, most: int) -> Bill:
        count, more = self.candidates, self.evidence
        drawn = Bill(count + more, count * prompt + more * (prompt + at_most(self.other)), 0, (count + more) * most)
        if self.utility != "judge":
            return drawn
        pairs = (1 + REPEATS) * (count * (count - 1) // 2 + count * more)
        return drawn + Bill(1, prompt + at_most(self.judging) + 2 * most, 0, self.judge_tokens).times(pairs)

    async def play(self, ep: Episode) -> Result:
        first = 0.0 if self.greedy else self.temperature
        own = [Ask(temperature=self.temperature if slot else first) for slot in range(self.candidates)]
        prompt = await ep.render(retold(ep, self.other))
        other = [Ask(prompt=prompt, temperature=self.temperature)] * self.evidence
        drawn = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate([*own, *other]))]
        finals, evidence = drawn[: self.candidates], there(drawn[self.candidates :])
        places = [place for place, node in enumerate(finals) if there([node])]
        pairs = [(one, two) for at, one in enumerate(places) for two in places[at + 1 :]]
        pairs += [(one, self.candidates + at) for one in places for at in range(len(evidence))]
        texts = dict(enumerate(node.text for node in [*finals, *evidence]))
        values = dict(
            zip(pairs, await self._utilities(ep, [(texts[one], texts[two]) for one, two in pairs]), strict=True)
        )
        for place in places:
            among = [value for pair, value in values.items() if place in pair and pair[1] < self.candidates]
            beside = [value for pair, value in values.items() if place in pair and pair[1] >= self.candidates]
            finals[place] = replace(finals[place], score=self._score(among, beside))
        best = max(places, key=lambda place: (finals[place].score or 0.0, -place), default=None)
        ep.note(greedy=self.greedy and best == 0, evidence=len(evidence))
        return Result(tuple(finals), best, "nothing" if best is None else "done")

    def _score(self, among: Sequence[float], beside: Sequence[float]) -> float:
        if self.evidence_weight is None:
            return _mean([*among, *beside])
        return (_mean(among) + self.evidence_weight * _mean(beside)) / (1.0 + self.evidence_weight)

    async def _utilities(self, ep: Episode, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if self.utility == "chrf":
            return [chrf(one, two) for one, two in pairs]
        if self.utility == "exact":
            named = [self.answers.classes(self.answers.read(ep, pair)) for pair in pairs]
            return [float(one is not None and one == two) for one, two in named]
        prompts = [await asked(ep, self.judging, JUDGE, first=one, second=two) for one, two in pairs]
        asks = [Ask(prompt=prompt, role=JUDGE, max_tokens=self.judge_tokens) for prompt in prompts]
        _, marks = await read_each(ep, asks, _mark) if asks else ([], [])
        return [mark or 0.0 for mark in marks]


def _mark(text: str) -> float | None:
    number = re.search(r"\d+(?:\.\d+)?", tagged(text, "mark") or "")
    return None if number is None else min(10.0, float(number[0])) / 10


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def chrf(one: str, two: str) -> float:
    """Return the mean F-score of n-grams of characters, both ways: white space doesn't count, and neither is first."""
    shared = (_chrf(one, two) + _chrf(two, one)) / 2
    return shared


def _chrf(text: str, reference: str) -> float:
    text, reference = re.sub(r"\s", "", text), re.sub(r"\s", "", reference)
    scores: list[float] = []
    for order in range(1, min(ORDER, len(text), len(reference)) + 1):
        grams = [Counter(one[at : at + order] for at in range(len(one) - order + 1)) for one in (text, reference)]
        common = sum((grams[0] & grams[1]).values())
        precision, recall = common / grams[0].total(), common / grams[1].total()
        weighed = BETA**2 * precision + recall
        scores.append((1 + BETA**2) * precision * recall / weighed if weighed else 0.0)
    return _mean(scores)
