"""A prompt for each problem, out of several: what can be built of input-dependent prompts over an engine."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import only, retold
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate, fill


class PromptChoice(Strategy):
    """Choose one of ``prompts`` for the problem, then ask once.

    No method of a paper: input-dependent soft prompts are chosen by attention inside of a compressed model, which no
    engine shows. ``likelihood``: the prompt after which the problem itself is most probable, by the mean log-prob of
    its tokens; ``probe``: the one whose short answers agree best; ``nearest``: the one that was best for the labelled
    problem whose words are most alike.
    """

    version: ClassVar[int] = 1

    prompts: tuple[PromptTemplate, ...] = Field(min_length=1)
    """Prompt templates, each filled in with {prompt}."""
    by: Literal["likelihood", "probe", "nearest"] = "nearest"
    """How the prompt is chosen: see above."""
    probe: int = Field(default=2, ge=2)
    """How many short answers are drawn for each prompt."""
    probe_tokens: int = Field(default=128, ge=1)
    """The most tokens of a short answer."""
    labelled: tuple[tuple[str, int], ...] = ()
    """Problems, and the place of the prompt that was best for each in a calibration run."""
    answers: Answers = Answers()
    """How answers are read."""

    @model_validator(mode="after")
    def _is_labelled(self) -> PromptChoice:
        if self.by == "nearest" and not self.labelled:
            raise ValueError("by=nearest needs labelled problems")
        if any(not 0 <= place < len(self.prompts) for _, place in self.labelled):
            raise ValueError("labelled names a prompt that isn't there")
        return self

    def worst(self, prompt: int, most: int) -> Bill:
        given = [prompt + at_most(text) for text in self.prompts]
        last = Bill(1, max(given), 0, most)
        if self.by == "likelihood":
            return last + Bill(passes=len(given), scorer_tokens=sum(one + prompt for one in given))
        if self.by == "probe":
            calls = len(given) * self.probe
            return last + Bill(calls, self.probe * sum(given), 0, calls * self.probe_tokens)
        return last

    async def play(self, ep: Episode) -> Result:
        place = await {"likelihood": self._likeliest, "probe": self._probed, "nearest": self._nearest}[self.by](ep)
        ep.note(prompt=place)
        prompt = await ep.render(retold(ep, self.prompts[place]))
        return only(Node.whole((await ep.generate([Ask(prompt=prompt)]))[0]))

    async def _likeliest(self, ep: Episode) -> int:
        question = ep.problem["prompt"]
        said = await ep.likelihood([(fill(text, {"prompt": ""}), question) for text in self.prompts])
        return _first_best([-math.inf if one is None else one[0] / max(1, len(one[1])) for one in said])

    async def _probed(self, ep: Episode) -> int:
        prompts = [await ep.render(retold(ep, text)) for text in self.prompts]
        said = await ep.generate(
            [Ask(prompt=one, max_tokens=self.probe_tokens) for one in prompts for _ in range(self.probe)]
        )
        named = self.answers.classes(self.answers.read(ep, [one.text for one in said]))
        groups = [named[at : at + self.probe] for at in range(0, len(named), self.probe)]
        return _first_best([max((group.count(name) for name in group if name), default=0) for group in groups])

    async def _nearest(self, ep: Episode) -> int:
        own = _words(ep.problem["prompt"])
        return self.labelled[_first_best([_cosine(own, _words(text)) for text, _ in self.labelled])][1]


def _first_best(values: Sequence[float]) -> int:
    return values.index(max(values))


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _cosine(one: Counter[str], two: Counter[str]) -> float:
    shared = sum(one[word] * two[word] for word in one.keys() & two.keys())
    norms = math.hypot(*one.values()) * math.hypot(*two.values())
    return shared / norms if norms else 0.0
