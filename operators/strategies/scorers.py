"""Scorers: what gives a node a value in [0, 1]. A strategy has one; it is hashed with it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from operators.asking import at_most
from operators.base import AnyOperator
from operators.cutting import Reduction, StepRule, reduced, steps_of
from operators.engine import Scored, ScoreRequest
from operators.strategies.calls import digest_of
from operators.strategies.episode import Episode
from operators.strategies.talking import leanings, sigmoid
from operators.strategies.verdicts import verdicts
from operators.strategies.words import POLICY, Ask, Bill, Node
from operators.text import PromptTemplate, fill
from schemas.conversation import Turn, spoken
from schemas.datasets import Verdict
from schemas.identity import identity
from schemas.settings import Settings

SCORER = "scorer"
"""The role of an engine that scores."""


class NodeScorer(Settings, ABC):
    """Base of all scorers.

    Class attributes:
        version: raised by hand when values change; part of the identity.
        oracle: whether it looks at the problem's answer.
    """

    version: ClassVar[int] = 1
    oracle: ClassVar[bool] = False

    @property
    def asks(self) -> str | None:
        """The role that it asks, None where it asks nobody."""
        return getattr(self, "role", None)

    @property
    def tools(self) -> tuple[str, ...]:
        """What it needs beside engines (``operators.base.Operator.tools``)."""
        return ()

    def most(self, prompt: int, text: int) -> Bill:
        """Return the most that the value of one text takes, of tokens of the prompt and of the text."""
        return Bill()

    @abstractmethod
    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        """Return the value of each node, all of which have a text; None where there is none."""

    async def judge(self, ep: Episode, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes with their scores, asked as one group.

        A node whose call was refused has none; one that a cap ended keeps its own.
        """
        asked = [place for place, node in enumerate(nodes) if node.finish not in ("error", "cap") and node.text]
        found = await self.values(ep, [nodes[place] for place in asked])
        scores = dict(zip(asked, found, strict=True))
        ep.values |= {
            call: score
            for place, score in scores.items()
            if score is not None and (call := nodes[place].call) is not None
        }
        kept = {place: node.score for place, node in enumerate(nodes) if node.finish == "cap"}
        return [node.scored(scores.get(place, kept.get(place))) for place, node in enumerate(nodes)]

    def fingerprint(self) -> dict[str, Any]:
        """Return what makes its values the same."""
        return {"version": self.version, **identity(self)}


def _conversation(ep: Episode, system: str | None) -> tuple[list[Turn], str]:
    """Return the problem as turns, and the beginning of its completion."""
    turns = spoken(ep.problem.get("messages")) or [{"role": "user", "content": ep.problem["prompt"]}]
    if turns[-1]["role"] == "assistant":
        turns.pop()
    if system is not None and not (turns and turns[0]["role"] == "system"):
        turns.insert(0, {"role": "system", "content": system})
    return turns, ep.setting.lead


class Prm(NodeScorer):
    """A process reward model: the probability that a text is right so far, of its steps' scores."""

    name: Literal["prm"] = "prm"
    """Which scorer this is."""
    reduce: Literal["last", "min", "prod", "mean", "whole"] = "last"
    """What is made of the steps' scores: the last (search-and-learn, openr), the least, their product or mean; or
    ``whole``: the whole text is shown as one step, in one line, and has one score (Puri et al. 2025)."""
    rule: StepRule = "blank_line"
    """Where a step ends for this model (``score.process``)."""
    separator: str = ""
    """Cut at this text instead."""
    step_tag: str = "\n"
    """What the model was trained to be asked with, behind each step; one token of its."""
    role: str = SCORER
    """The role whose engine is asked."""
    system: str | None = None
    """A system prompt before the problem."""

    @field_validator("step_tag")
    @classmethod
    def _is_there(cls, value: str) -> str:
        if not value:
            raise ValueError("a process reward model needs a tag behind each step")
        return value

    def most(self, prompt: int, text: int) -> Bill:
        tags = 1 if self.reduce == "whole" else max(1, text)
        return Bill(passes=1, scorer_tokens=prompt + at_most(self.system or "") + text + tags)

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        turns, lead = _conversation(ep, self.system)
        prompt = await ep.render(turns, self.role)
        cut = [self._steps(lead + node.text) for node in nodes]
        texts = ["".join(f"{step}{self.step_tag}" for step in steps) for steps in cut]
        found = await ep.score([ScoreRequest(prompt, text, "steps", self.step_tag) for text in texts], self.role)
        return [self._value(one, steps) for one, steps in zip(found, cut, strict=True)]

    def _steps(self, text: str) -> list[str]:
        if self.reduce != "whole":
            return steps_of(text, self.rule, self.separator, self.step_tag)
        return [re.sub(r"\s*\n\s*", " ", text.replace(self.step_tag, " ")).strip()]

    def _value(self, scored: Scored | None, steps: list[str]) -> float | None:
        if scored is None or len(scored.steps) != len(steps):
            return None
        how: Reduction = "last" if self.reduce == "whole" else self.reduce
        return _within(reduced(scored.steps, how))


class Reward(NodeScorer):
    """An outcome reward model's score of the whole text, squashed: sigmoid(score / temperature)."""

    name: Literal["reward"] = "reward"
    """Which scorer this is."""
    squash: Literal["sigmoid", "none"] = "sigmoid"
    """``none`` for models whose score is a probability already."""
    temperature: float = Field(default=1.0, gt=0.0)
    """What the model's score is divided by before it is squashed."""
    role: str = SCORER
    """The role whose engine is asked."""
    system: str | None = None
    """A system prompt before the problem."""

    def most(self, prompt: int, text: int) -> Bill:
        return Bill(passes=1, scorer_tokens=prompt + at_most(self.system or "") + text)

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        turns, lead = _conversation(ep, self.system)
        engine, chat = ep.engine(self.role), ep.setting.chat
        answered = [[*turns, {"role": "assistant", "content": lead + node.text}] for node in nodes]
        prompts = [await engine.render(one, chat=chat, answered=True) for one in answered]
        found = await ep.score([ScoreRequest(prompt, "", "reward") for prompt in prompts], self.role)
        return [None if one is None else self._value(one.score) for one in found]

    def _value(self, score: float) -> float | None:
        return sigmoid(score / self.temperature) if self.squash == "sigmoid" else _within(score)


class Truth(NodeScorer):
    """Self-evaluation: what a model gives to ``yes`` among ``yes`` and ``no`` (P(True) of Kadavath et al. 2022)."""

    name: Literal["truth"] = "truth"
    """Which scorer this is."""
    template: PromptTemplate = (
        "Problem: {prompt}\n\nSolution so far: {completion}\n\nIs this solution, as far as it goes:\n (A) Right\n"
        " (B) Wrong\nAnswer with the letter alone."
    )
    """A template, filled in with {prompt} and {completion}."""
    yes: str = "A"
    """The word for "right"."""
    no: str = "B"
    """The word for "wrong"."""
    cue: str = "("
    """What the reply begins with, before ``yes`` or ``no``."""
    role: str = POLICY
    """The role whose engine is asked; by default the model judges itself."""

    def most(self, prompt: int, text: int) -> Bill:
        words = at_most(self.template) + at_most(self.cue) + max(at_most(self.yes), at_most(self.no))
        return Bill(passes=2, scorer_tokens=2 * (prompt + text + words))

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        prompts = [await _filled(ep, self.template, node, self.role) + self.cue for node in nodes]
        return await leanings(ep, prompts, self.yes, self.no, self.role)


class Rating(NodeScorer):
    """A judge's words: the mean over votes of what each word is worth (tree of thoughts, Yao et al. 2023)."""

    name: Literal["rating"] = "rating"
    """Which scorer this is."""
    votes: int = Field(default=3, ge=1)
    """How often the judge is asked about each text."""
    words: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = {"sure": 1.0, "likely": 0.5, "impossible": 0.0}
    """What each word is worth. The one that a reply says last counts; a reply without any is worth 0."""
    template: PromptTemplate = (
        "Problem: {prompt}\n\nSolution so far: {completion}\n\nCan the right answer still be reached like this? Think "
        "briefly. End with one line that holds one of these words alone: {words}"
    )
    """A template, filled in with {prompt}, {completion} and {words}."""
    max_tokens: int = Field(default=256, ge=1)
    """The most tokens of a vote."""
    temperature: float = Field(default=0.7, ge=0.0)
    """The temperature of the votes."""
    role: str = POLICY
    """The role whose engine is asked; by default the model judges itself."""

    def most(self, prompt: int, text: int) -> Bill:
        read = prompt + text + at_most(self.template) + at_most(", ".join(self.words))
        return Bill(self.votes, self.votes * read, 0, self.votes * self.max_tokens)

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        more = {"words": ", ".join(self.words)}
        prompts = [await _filled(ep, self.template, node, self.role, more) for node in nodes]
        names = {prompt: digest_of("rating", self.role, prompt) for prompt in prompts}
        fresh = [prompt for prompt, name in names.items() if name not in ep.memo]
        asks = [
            Ask(prompt=prompt, max_tokens=self.max_tokens, temperature=self.temperature, role=self.role)
            for prompt in fresh
            for _ in range(self.votes)
        ]
        said = await ep.generate(asks)
        for place, prompt in enumerate(fresh):
            votes = [one for one in said[place * self.votes : (place + 1) * self.votes] if one.finish not in _SILENT]
            ep.memo[names[prompt]] = sum(self.read(one.text) for one in votes) / len(votes) if votes else None
        return [ep.memo[names[prompt]] for prompt in prompts]

    def read(self, reply: str) -> float:
        """Return what a reply is worth."""
        said = re.findall(rf"(?i)\b({'|'.join(map(re.escape, self.words))})\b", reply)
        worth = {word.casefold(): value for word, value in self.words.items()}
        return worth[said[-1].casefold()] if said else 0.0


_SILENT = ("error", "cap")


class Certainty(NodeScorer):
    """How sure the policy itself was of the last step: exp of the mean log-prob of its tokens. Nobody is asked."""

    name: Literal["certainty"] = "certainty"
    """Which scorer this is."""

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        return [None if node.step_logprob is None else math.exp(min(0.0, node.step_logprob)) for node in nodes]


class Random(NodeScorer):
    """Chance, by the text: what a scorer without any knowledge would bring."""

    name: Literal["random"] = "random"
    """Which scorer this is."""

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        return [ep.uniform(f"score/{digest_of(node.text)}") for node in nodes]


class Constant(NodeScorer):
    """The same value for everything: what a search brings by its form alone."""

    name: Literal["constant"] = "constant"
    """Which scorer this is."""
    value: float = Field(default=0.5, ge=0.0, le=1.0)
    """What every text is worth."""

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        return [self.value for _ in nodes]


class Oracle(NodeScorer):
    """A verifier that knows the answer: an upper bound of what scorers can bring, and no method.

    An ended text is worth 1 where it is right and 0 where it isn't; one that goes on is worth .5.
    """

    oracle = True

    name: Literal["verdict"] = "verdict"
    """Which scorer this is."""
    verifier: AnyOperator
    """What judges ended texts; it sees the known answer."""

    @field_validator("verifier")
    @classmethod
    def _judges(cls, value: AnyOperator) -> AnyOperator:
        if value.output is not Verdict or "engine" in value.tools:
            raise ValueError(f"'{value.public_name()}' isn't a verifier that works without an engine")
        return value

    @property
    def tools(self) -> tuple[str, ...]:
        return self.verifier.tools

    async def values(self, ep: Episode, nodes: Sequence[Node]) -> list[float | None]:
        ended = [node.text for node in nodes if node.ended]
        right = dict(zip(ended, await verdicts(ep, self.verifier, ended), strict=True))
        worth = {True: 1.0, False: 0.0, None: None}
        return [worth[right[node.text]] if node.ended else 0.5 for node in nodes]


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_AnyScorer = Annotated[
    Prm | Reward | Truth | Rating | Certainty | Random | Constant | Oracle,
    Field(discriminator="name"),
]
Scorer = Annotated[_AnyScorer, BeforeValidator(_named, json_schema_input_type=str | _AnyScorer)]
"""A field that any scorer can fill: ``certainty``, ``{"name": "prm", "reduce": "min"}``."""


async def _filled(ep: Episode, template: str, node: Node, role: str, more: dict[str, str] | None = None) -> str:
    """Return the rendered prompt that asks about a node."""
    text = fill(template, {"prompt": ep.problem["prompt"], "completion": node.text, **(more or {})})
    return await ep.render([{"role": "user", "content": text}], role)


def _within(value: float) -> float | None:
    """Return a score that a model gave as a value in [0, 1]; None where it isn't a number."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else None
