"""Revisions (Madaan et al. 2023, "Self-Refine"; Snell et al. 2024): answer, look at the answer, try again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.search import Scored
from operators.strategies.talking import BETWEEN, SILENT, asked, conversation, since, there
from operators.strategies.weighing import best
from operators.strategies.words import POLICY, Ask, Bill, Node, Result
from operators.text import Pattern, PromptTemplate, fill

CRITIC = "critic"


class Revise(Scored):
    """Write ``chains`` of ``length`` attempts each; an attempt sees the ``context`` attempts before it.

    Self-Refine is ``feedback="critic", stop="clean", length=4``; Snell's mix of sequential and parallel sampling is
    ``chains`` times ``length`` (there by a model that was trained to revise); hints by a teacher who knows what is
    right (Microsoft's inference-time scaling study) are ``feedback="critic", stop="first_right"``: an upper bound.
    """

    version: ClassVar[int] = 1
    optional_roles = (CRITIC,)

    chains: int = Field(default=1, ge=1)
    """How many chains of attempts there are, side by side."""
    length: int = Field(default=4, ge=1)
    """How many attempts a chain has at most."""
    context: int = Field(default=4, ge=1)
    """Earlier attempts that an attempt sees, the newest ones; fewer where the engine's context is too small."""
    feedback: Literal["none", "critic", "verdict"] = "none"
    """What is said of an attempt: nothing, a critic's words, or that it is wrong (by the scorer ``verdict``)."""
    stop: Literal["never", "same_twice", "first_right", "clean"] = "never"
    """When a chain ends early: the same answer twice, a right one (scorer ``verdict``), or a critic who finds nothing.
    """
    select: Literal["last", "best", "majority"] = "last"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Which attempt stands for a chain, and then which chain for all; of equal votes the newest."""
    every: bool = False
    """All attempts are rows, not only each chain's own."""
    show: int = Field(default=4000, ge=1)
    """How many of the last characters are shown of an attempt that was cut by its length."""
    again: str = "{feedback}Check your last answer, and give a complete solution anew that has no mistakes."
    """The demand to try again: a template, filled in with {feedback}."""
    wrong: str = "That answer is wrong. "
    """What is said of an attempt that a verifier found wrong."""
    critic: PromptTemplate = (
        "Problem: {prompt}\n\n{attempts}\n\nLook for mistakes in the last attempt, step by step. Say what is wrong and "
        "give a hint, but don't solve the problem. If nothing is wrong, end with one line: NO MISTAKE"
    )
    """A template, filled in with {prompt} and {attempts}, of which each but the last has what was said of it."""
    clean: Pattern = r"NO MISTAKE\W*\Z"
    """How a critic's text ends that has found nothing (a regular expression)."""
    critic_tokens: int = Field(default=512, ge=1)
    """The most tokens of a critic's text."""

    @model_validator(mode="after")
    def _has_judges(self) -> Revise:
        if (self.feedback == "verdict" or self.stop == "first_right") and not self.scorer.oracle:
            raise ValueError("feedback=verdict and stop=first_right need the scorer 'verdict'")
        if self.stop == "clean" and self.feedback != "critic":
            raise ValueError("stop=clean needs feedback=critic")
        return self

    @property
    def rows(self) -> int:
        return self.chains * (self.length if self.every else 1)

    @property
    def asks(self) -> tuple[str, ...]:
        return super().asks if self.select == "best" else ()

    def worst(self, prompt: int, most: int) -> Bill:
        seen = [min(before, self.context) for before in range(self.length)]
        said = at_most(self.again) + (self.critic_tokens if self.feedback == "critic" else at_most(self.wrong))
        bill = Bill(self.length, sum(prompt + count * (most + said) for count in seen), 0, self.length * most)
        if self.feedback == "critic":
            read = sum(prompt + at_most(self.critic) + count * (most + said) for count in seen[1:])
            bill += Bill(self.length - 1, read, 0, (self.length - 1) * self.critic_tokens)
        scored = self.scoring(prompt, most, self.length) if self.select == "best" else Bill()
        return (bill + scored).times(self.chains)

    async def play(self, ep: Episode) -> Result:
        chains = list((await ep.together({f"chain{chain}": self._chain for chain in range(self.chains)})).values())
        chains = [[replace(node, lineage=slot) for node in chain] for slot, chain in enumerate(chains)]
        own = [self._choice(ep, chain) for chain in chains]
        winner = own[0] if not there(own) else self._choice(ep, there(own))
        rows = [node for chain in chains for node in chain] if self.every else own
        found = winner.finish not in SILENT
        return Result(tuple(rows), rows.index(winner) if found else None, "done" if found else "nothing")

    async def _chain(self, ep: Episode) -> list[Node]:
        [said] = await ep.generate([Ask()])
        attempts, talk = [Node.whole(said)], list[str]()
        while len(attempts) < self.length and attempts[-1].finish not in SILENT:
            hint = await self._hint(ep, attempts, talk)
            if hint is None:
                break
            talk += [self._shown(attempts[-1]), fill(self.again, {"feedback": hint})]
            [said] = await ep.generate([Ask(prompt=await self._prompt(ep, talk), parent=attempts[-1].call)])
            if said.finish in SILENT:
                break
            attempts.append(replace(Node.whole(said), turns=since(ep, *talk, said.text)))
        named = self.answers.classes(self.answers.read(ep, [node.text for node in attempts]))
        ep.note(attempts=len(attempts), changed=sum(one != other for one, other in pairwise(named)))
        if self.scorer.oracle or self.select == "best":
            attempts = await self.scorer.judge(ep, attempts)
        if self.scorer.oracle:
            steps = [(one.score, other.score) for one, other in pairwise(attempts)]
            ep.note(mended=steps.count((0.0, 1.0)), spoiled=steps.count((1.0, 0.0)))
        return attempts

    async def _hint(self, ep: Episode, attempts: Sequence[Node], talk: Sequence[str]) -> str | None:
        """Return what is said of the last attempt; None where the chain ends with it."""
        last = attempts[-1]
        if self.stop == "same_twice" and len(attempts) > 1:
            one, other = self.answers.classes(self.answers.read(ep, [node.text for node in attempts[-2:]]))
            if one is not None and one == other:
                return None
        right = self.scorer.oracle and (await self.scorer.values(ep, [last])) == [1.0]
        if self.stop == "first_right" and right:
            return None
        if self.feedback != "critic":
            return self.wrong if self.feedback == "verdict" and not right else ""
        seen = BETWEEN.join([*talk, self._shown(last)][-(2 * self.context - 1) :])
        prompt = await asked(ep, self.critic, CRITIC, attempts=seen)
        [said] = await ep.generate([Ask(prompt=prompt, max_tokens=self.critic_tokens, role=CRITIC, parent=last.call)])
        if self.stop == "clean" and re.search(self.clean, said.text):
            return None
        return f"{said.text.strip()}{BETWEEN}" if said.text.strip() else ""

    def _shown(self, node: Node) -> str:
        return node.text[-self.show :] if node.finish == "length" else node.text

    async def _prompt(self, ep: Episode, talk: Sequence[str]) -> str:
        """Return the prompt with as many of the newest attempts as the engine has room for."""
        engine = ep.engine(POLICY)
        for shown in range(min(self.context, len(talk) // 2), 1, -1):
            prompt = await ep.render(conversation(ep, *talk[-2 * shown :]))
            if await engine.count_tokens(prompt) + ep.params.max_tokens <= engine.info.context:
                return prompt
        return await ep.render(conversation(ep, *talk[-2:]))

    def _choice(self, ep: Episode, nodes: Sequence[Node]) -> Node:
        newest = list(reversed(nodes))
        place = best(newest) if self.select == "best" else 0
        if self.select == "majority":
            place = next(iter(self.answers.vote(ep, newest, [1.0] * len(nodes))), 0)
        return newest[place or 0]
