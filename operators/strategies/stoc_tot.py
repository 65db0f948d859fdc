"""STOC-TOT (Bi et al. 2024): multi-hop questions by a tree of sub-questions that have probabilities."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import REPEATS, asked, leanings, listed, read_each, tagged, there
from operators.strategies.weighing import multinomial
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

DONE = "DONE"


@dataclass(frozen=True)
class _Path:
    """Sub-questions with their answers, and how likely it is that they help."""

    hops: tuple[tuple[str, str], ...] = ()
    chance: float = 1.0
    done: bool = False

    def told(self) -> str:
        return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in self.hops) or "(none)"


class StocTot(Strategy):
    """Ask for next sub-questions, answer each from the passages, weigh each path, keep the most probable ones.

    Known to us by its abstract and reviews. Published with a model for paraphrases (here: the share of equal words) and
    decoding within a vocabulary (here: an answer with a word that neither the passages nor the question has is asked
    for once more, and then kept and counted as ``ungrounded``). Passages are ``metadata.passages``, where the stage
    gives that to the strategy; else the problem's prompt has them.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("metadata",)

    branch: int = Field(default=3, ge=1)
    """How many sub-questions are asked after a path."""
    depth: int = Field(default=3, ge=1)
    """The most sub-questions behind one another."""
    paths: int = Field(default=3, ge=1)
    """How many paths are kept at each depth."""
    alike: float = Field(default=0.85, gt=0.0, le=1.0)
    """Sub-questions that share so many of their words ask the same."""
    select: Literal["best", "draw"] = "best"
    """Keep the most probable paths, or draw them in proportion to their probabilities."""
    by: Literal["number", "likelihood"] = "number"
    """A path's chance is a number that the model says, or the likelihood of ``yes`` among ``yes`` and ``no``."""
    step_tokens: int = Field(default=128, ge=1)
    """The most tokens of a sub-question, an answer to it, or a chance."""
    propose: PromptTemplate = (
        "{passages}\n\nQuestion: {prompt}\n\nAsked and answered so far:\n{told}\n\nList up to {count} different next "
        "sub-questions that help, one a line. If the question can be answered already, write DONE alone."
    )
    """A template, filled in with {passages}, {prompt}, {told} and {count}."""
    reply: PromptTemplate = (
        "{passages}\n\nAnswer from these passages alone, in a few words: {asked}\n(It helps with: {prompt})"
    )
    """A template, filled in with {passages}, {prompt} and {asked}."""
    weigh: PromptTemplate = (
        "Question: {prompt}\n\nAsked and answered so far:\n{told}\n\nHow likely is it that this leads to the answer? "
        "End with a number from 0 to 100 in <chance></chance>."
    )
    """A template, filled in with {prompt} and {told}."""
    yes_no: PromptTemplate = "Question: {prompt}\n\nAsked and answered so far:\n{told}\n\nDoes this lead to the answer?"
    """How ``likelihood`` asks, with {prompt} and {told}."""
    final: PromptTemplate = (
        "{passages}\n\nQuestion: {prompt}\n\nAsked and answered so far:\n{told}\n\nGive the final answer alone, in "
        "words of the passages and the question."
    )
    """A template, filled in with {passages}, {prompt} and {told}."""
    answers: Answers = Answers(extract=("boxed", "whole"))
    """How answers are read."""

    @property
    def rows(self) -> int:
        return self.paths

    def worst(self, prompt: int, most: int) -> Bill:
        """Passages are taken to be part of the prompt."""
        told = self.depth * (2 * self.step_tokens + 16)
        read = 2 * prompt + told + max(map(at_most, (self.propose, self.reply, self.weigh, self.yes_no, self.final)))
        tries, kids = 1 + REPEATS, self.paths * self.branch
        weighed = kids * tries if self.by == "number" else 0
        level = tries * self.paths + kids + weighed
        passes = 0 if self.by == "number" else 2 * kids * self.depth
        calls = self.depth * level + 2 * self.paths
        written = self.depth * level * self.step_tokens + 2 * self.paths * most
        return Bill(calls, calls * (read + self.step_tokens), 0, written, passes, passes * (read + 8))

    async def play(self, ep: Episode) -> Result:
        passages: list[str] = json.loads(ep.problem.get("metadata") or "{}").get("passages") or []
        shown = "\n\n".join(map(str, passages)) or "The passages stand with the question."
        paths = [_Path()]
        for level in range(self.depth):
            grown = await self._grown(ep, paths, shown)
            if not grown:
                break
            paths = self._kept(ep, grown, level)
            if all(path.done for path in paths) or ep.capped:
                break
        return await self._answered(ep, paths, shown)

    async def _grown(self, ep: Episode, paths: Sequence[_Path], shown: str) -> list[_Path]:
        live = [path for path in paths if not path.done]
        more = {"passages": shown, "count": str(self.branch)}
        prompts = [await asked(ep, self.propose, told=path.told(), **more) for path in live]
        _, found = await read_each(ep, [self._ask(prompt) for prompt in prompts], lambda text: listed(text) or None)
        grown = [path for path in paths if path.done]
        new: list[tuple[_Path, str]] = []
        for path, lines in zip(live, found, strict=True):
            if lines is None or DONE in lines[0]:
                grown.append(_Path(path.hops, path.chance, True))
                continue
            known = [question for question, _ in path.hops]
            for line in lines[: self.branch]:
                if not any(overlap(line, old) >= self.alike for old in known):
                    known.append(line)
                    new.append((path, line))
        if not new:
            return grown
        asks = [self._ask(await asked(ep, self.reply, passages=shown, asked=question)) for _, question in new]
        said = await ep.generate(asks)
        longer = [(*path.hops, (question, one.text.strip())) for (path, question), one in zip(new, said, strict=True)]
        chances = await self._chances(ep, [_Path(hops) for hops in longer])
        return grown + [_Path(hops, path.chance * p) for (path, _), hops, p in zip(new, longer, chances, strict=True)]

    def _ask(self, prompt: str) -> Ask:
        return Ask(prompt=prompt, max_tokens=self.step_tokens)

    async def _chances(self, ep: Episode, paths: Sequence[_Path]) -> list[float]:
        if self.by == "number":
            prompts = [await asked(ep, self.weigh, told=path.told()) for path in paths]
            _, found = await read_each(ep, [self._ask(prompt) for prompt in prompts], _chance)
            return [0.0 if one is None else one for one in found]
        prompts = [await asked(ep, self.yes_no, told=path.told()) for path in paths]
        return [chance or 0.0 for chance in await leanings(ep, prompts, "Yes", "No")]

    def _kept(self, ep: Episode, paths: list[_Path], level: int) -> list[_Path]:
        if self.select == "best":
            return sorted(paths, key=lambda path: -path.chance)[: self.paths]
        total = math.fsum(path.chance for path in paths)
        shares = [path.chance / total if total > 0 else 1 / len(paths) for path in paths]
        places = multinomial(ep, shares, self.paths, f"keep/{level}")
        return sorted((paths[place] for place in dict.fromkeys(places)), key=lambda path: -path.chance)

    async def _answered(self, ep: Episode, paths: Sequence[_Path], shown: str) -> Result:
        bank = words(shown + " " + ep.problem["prompt"]) | {"yes", "no"}
        prompts = [await asked(ep, self.final, passages=shown, told=path.told()) for path in paths]
        asks = [Ask(prompt=prompt) for prompt in prompts]
        said, _ = await read_each(ep, asks, lambda text: text if words(text) <= bank else None)
        finals = [
            Node.whole(one, slot).scored(path.chance) for slot, (one, path) in enumerate(zip(said, paths, strict=True))
        ]
        ep.note(paths=len(paths), ungrounded=sum(not words(node.text) <= bank for node in there(finals)))
        if not there(finals):
            return Result(tuple(finals), None, "nothing")
        top = max(node.score or 0.0 for node in there(finals))
        votes = [float((node.score or 0.0) == top) + 1 / (len(finals) + 1) for node in finals]
        likely = [place for place, node in enumerate(finals) if there([node]) and node.score == top]
        voted = self.answers.vote(ep, finals, votes)
        return Result(tuple(finals), next((place for place in likely if place in voted), likely[0]))


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def overlap(one: str, two: str) -> float:
    """Return the share of words that two texts have in common, of all that they have."""
    mine, other = words(one), words(two)
    return len(mine & other) / len(mine | other) if mine | other else 1.0


def _chance(text: str) -> float | None:
    number = re.search(r"\d+(?:\.\d+)?", tagged(text, "chance") or "")
    return None if number is None else min(100.0, float(number[0])) / 100
