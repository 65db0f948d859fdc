"""Inferential exclusion (Tong et al. 2023, "Eliminating Reasoning via Inferring with Planning"): drop what can't be."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, REPEATS, asked, listed, only, options, read_each, retold, said_last
from operators.strategies.weighing import shares_of
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

LABELS = ("entailed", "contradicted", "neutral")


class Iep(Strategy):
    """Say of each option what would have to be true, ask whether that is contradicted, and choose among what is left.

    Known to us by its abstract and a note alone: the three steps are the paper's, their words and the rule for what is
    left are ours. Where one option is left that is the answer; where none is, all are.
    """

    version: ClassVar[int] = 1

    candidates: int = Field(default=4, ge=2, le=26)
    """Solutions that are proposed where the problem lists no options (``(A) ...``, a line each)."""
    likelihoods: bool = False
    """Label by the likelihood of the three words, where the engine gives it, instead of by what is written."""
    with_cot: bool = False
    """The last choice also sees a solution step by step, which is asked for beforehand."""
    propose: PromptTemplate = "{prompt}\n\nList {count} different possible final answers, one a line, and nothing else."
    """A template, filled in with {prompt} and {count}."""
    plan: PromptTemplate = (
        "{prompt}\n\nPossible answers:\n{options}\n\nFor each of them, in order and one a line: what would have to be "
        "true if it were the right one?"
    )
    """A template, filled in with {prompt} and {options}."""
    infer: PromptTemplate = (
        "{prompt}\n\nSuppose the answer is: {option}\nThen this would have to be true: {condition}\n\nBy what is "
        "given, and "
        "by common sense and facts, is that entailed, contradicted, or neutral? Give one sentence of reason, and end "
        "with one of these words."
    )
    """A template, filled in with {prompt}, {option} and {condition}."""
    exclude: PromptTemplate = (
        "{prompt}\n\nWhat was found about possible answers:\n{labels}\n\n{solution}Choose the right one among these, "
        "and give the final answer."
    )
    """A template, filled in with {prompt}, {labels} and {solution}."""
    step_tokens: int = Field(default=256, ge=1)
    """The most tokens of the replies before the last."""
    answers: Answers = Answers()
    """How answers are read."""

    def worst(self, prompt: int, most: int) -> Bill:
        short, tries = self.step_tokens, 1 + REPEATS
        count, longest = max(self.candidates, 26), max(prompt, short)  # an option is a line of the prompt or of a reply
        given = [at_most(one) for one in (self.propose, self.plan, self.infer, self.exclude)]
        offered = count * (longest + 8)
        read = tries * (prompt + given[0]) + tries * (prompt + given[1] + offered)
        asked = count * tries * (prompt + given[2] + longest + short)
        last = prompt + given[3] + offered + count * 8 + most
        calls = 2 * tries + count * tries + 1 + self.with_cot
        labels = count * len(LABELS) if self.likelihoods else 0
        scored = labels * (prompt + given[2] + longest + short + 8)
        written = (2 * tries + count * tries) * short + most + self.with_cot * most
        return Bill(calls, read + asked + last + self.with_cot * prompt, 0, written, labels, scored)

    async def play(self, ep: Episode) -> Result:
        choices = await self._choices(ep)
        thought = Node.whole((await ep.generate([Ask()]))[0]) if self.with_cot else None
        shown = "\n".join(f"({name}) {text}" for name, text in choices.items())
        conditions = await self._conditions(ep, choices, shown) if choices else []
        labels = await self._labels(ep, list(choices.values()), conditions)
        left = [name for name, label in zip(choices, labels, strict=True) if label != "contradicted"]
        ep.note(options=len(choices), excluded=len(choices) - len(left))
        if len(left) == 1:
            written = f"({left[0]})" if options(ep.problem["prompt"]) else f"\\boxed{{{choices[left[0]]}}}"
            return only(Node(f"The answer is {written}", ended=True, finish="stop", steps=1))
        offered = left or list(choices)
        told = "\n".join(
            f"({name}) {text}: {label}"
            for (name, text), label in zip(choices.items(), labels, strict=True)
            if name in offered
        )
        solution = f"A solution step by step:\n{thought.text}{BETWEEN}" if thought is not None else ""
        turns = retold(ep, self.exclude, labels=told or "(nothing)", solution=solution)
        return only(Node.whole((await ep.generate([Ask(prompt=await ep.render(turns))]))[0]))

    async def _choices(self, ep: Episode) -> dict[str, str]:
        found = options(ep.problem["prompt"])
        if found:
            return found
        prompt = await asked(ep, self.propose, count=str(self.candidates))
        _, [lines] = await read_each(
            ep, [Ask(prompt=prompt, max_tokens=self.step_tokens)], lambda text: listed(text) or None
        )
        return {chr(65 + place): line for place, line in enumerate((lines or [])[: self.candidates])}

    async def _conditions(self, ep: Episode, choices: dict[str, str], shown: str) -> list[str]:
        prompt = await asked(ep, self.plan, options=shown)
        _, [lines] = await read_each(
            ep, [Ask(prompt=prompt, max_tokens=self.step_tokens)], lambda text: listed(text) or None
        )
        return [
            (lines or [])[place] if place < len(lines or []) else text for place, text in enumerate(choices.values())
        ]

    async def _labels(self, ep: Episode, choices: list[str], conditions: list[str]) -> list[str]:
        prompts = [
            await asked(ep, self.infer, option=option, condition=condition)
            for option, condition in zip(choices, conditions, strict=True)
        ]
        if self.likelihoods:
            found = await ep.likelihood([(prompt, label) for prompt in prompts for label in LABELS])
            logs = [None if one is None or not math.isfinite(one[0]) else one[0] for one in found]
            shares = [shares_of(logs[at : at + 3]) for at in range(0, len(logs), 3)]
            return ["neutral" if one is None else LABELS[one.index(max(one))] for one in shares]
        asks = [Ask(prompt=prompt, max_tokens=self.step_tokens) for prompt in prompts]
        _, labels = await read_each(ep, asks, lambda text: said_last(text, LABELS)) if asks else ([], [])
        return [label or "neutral" for label in labels]
