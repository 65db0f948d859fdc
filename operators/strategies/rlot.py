"""RL of thoughts (Hao et al. 2025): a small navigator chooses the next of five reasoning blocks by self-ratings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.navigator import BLOCKS, RATINGS, from_text, read
from operators.strategies.scorers import Scorer
from operators.strategies.steps import StepRule
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, REPEATS, SILENT, asked, listed, only, read_each
from operators.strategies.words import POLICY, Ask, Bill, Node, Result
from operators.text import PromptTemplate

REASON, DECOMPOSE, DEBATE, REFINE, TERMINATE = range(len(BLOCKS))


class Rlot(Strategy):
    """Rate the solution so far, have the navigator choose a block, write it, and so on until it terminates.

    Once a step has an answer only terminating is allowed; refining nothing is reasoning; after ``max_actions`` the text
    is ended. The network is the published one; its training isn't public (see ``train.navigator``). Without a
    ``navigator`` blocks are drawn: with a ``scorer`` such episodes are what it is trained on (their notes have the
    states, actions, and scores). Published with four episodes a problem and a vote.
    """

    version: ClassVar[int] = 1

    navigator: Annotated[str, BeforeValidator(read)] = ""
    """A Parquet file of ``train.navigator``; its content is the identity. Empty: blocks are drawn."""
    epsilon: float = Field(default=0.0, ge=0.0, le=1.0)
    """The share of blocks that are drawn although there is a navigator."""
    max_actions: int = Field(default=6, ge=1)
    """The most blocks before the end."""
    parts: int = Field(default=4, ge=1)
    """Smaller problems that a problem is decomposed into, at most."""
    step_tokens: int = Field(default=512, ge=1)
    """The most tokens of a block."""
    rating_tokens: int = Field(default=64, ge=1)
    """The most tokens of a rating."""
    scorer: Scorer | None = None
    """What each text is worth, for training."""
    rate: PromptTemplate = (
        "Problem: {prompt}\n\nSolution so far:\n{trace}\n\nRate it with seven numbers, each 1 (no), 2 (partly) or 3 "
        "(yes): "
        "is it modelled rightly; is it clear enough to go on; is the calculation right; is the answer near; are there "
        "no other ways worth trying; is it close to the final solution; is the last step complete? Write the seven "
        "numbers alone, with blanks between."
    )
    """A template, filled in with {prompt} and {trace}."""
    blocks: dict[str, PromptTemplate] = {
        "reason": "{prompt}\n\nSolution so far:\n{trace}\n\nWrite the next step alone.",
        "split": "{prompt}\n\nSolution so far:\n{trace}\n\nSplit the rest into up to {count} parts, a line each.",
        "part": "{prompt}\n\nSolution so far:\n{trace}\n\nSolve this part alone: {part}",
        "combine": "{prompt}\n\nSolution so far:\n{trace}\n\nCombine what the parts gave, as one step.",
        "plans": "{prompt}\n\nSolution so far:\n{trace}\n\nPropose several different plans to go on, and compare them.",
        "debate": "{prompt}\n\nSolution so far:\n{trace}\n\nPlans:\n{plans}\n\nWrite the first step of the best.",
        "refine": "{prompt}\n\nSolution so far:\n{trace}\n\nWrite the last step anew without its mistakes.",
        "terminate": "{prompt}\n\nSolution so far:\n{trace}\n\nGive the final answer in \\boxed{}, with its reasons.",
    }
    """The prompts of the blocks, with {prompt} and {trace}."""

    @property
    def asks(self) -> tuple[str, ...]:
        role = None if self.scorer is None else self.scorer.asks
        return () if role in (None, POLICY) else (role,)

    @property
    def tools(self) -> tuple[str, ...]:
        return () if self.scorer is None else self.scorer.tools

    @property
    def shows_answers(self) -> bool:
        return self.scorer is not None and self.scorer.oracle

    def worst(self, prompt: int, most: int) -> Bill:
        actions, calls = self.max_actions, self.max_actions * (2 + self.parts)
        trace = actions * (1 + self.parts) * (self.step_tokens + 4)
        template = max(map(at_most, self.blocks.values())) + self.step_tokens + 16
        rated = (1 + REPEATS) * (actions + 1)
        read = (calls + 1) * (prompt + template + trace) + rated * (prompt + at_most(self.rate) + trace)
        bill = Bill(calls + 1 + rated, read, 0, calls * self.step_tokens + most + rated * self.rating_tokens)
        scored = Bill() if self.scorer is None else self.scorer.most(prompt, trace + most).times(actions + 1)
        return bill + scored

    async def play(self, ep: Episode) -> Result:
        steps, whole, number = list[Node](), Node(), 0
        network = from_text(self.navigator) if self.navigator else None
        for number in range(self.max_actions + 1):
            state = await self._rated(ep, _trace(steps))
            answered = any(StepRule().ends(step.text, 0) for step in steps)
            allowed = [TERMINATE] if answered or number == self.max_actions else list(range(len(BLOCKS)))
            drawn = network is None or ep.uniform(f"explore/{number}") < self.epsilon
            chance = ep.uniform(f"navigator/{number}")
            block = allowed[int(chance * len(allowed))] if drawn or network is None else network.best(state, allowed)
            block = REASON if block == REFINE and not steps else block
            new = await self._written(ep, block, steps)
            steps = [*(steps[:-1] if block == REFINE else steps), new]
            ends = block == TERMINATE or new.finish in SILENT
            whole = replace(new, text=_trace(steps)) if new.finish not in SILENT else new
            await self._noted(ep, number, state, block, allowed, whole)
            if ends:
                break
        ep.note(actions=number + 1)
        tokens = sum(step.tokens for step in steps[-1:])
        return only(replace(whole, tokens=tokens, sum_logprob=None, steps=len(steps)))

    async def _rated(self, ep: Episode, trace: str) -> list[float]:
        prompt = await asked(ep, self.rate, trace=trace or "(nothing yet)")
        _, [found] = await read_each(ep, [Ask(prompt=prompt, max_tokens=self.rating_tokens)], _ratings)
        return found or [0.0] * RATINGS

    async def _written(self, ep: Episode, block: int, steps: Sequence[Node]) -> Node:
        """Return the step that a block writes."""
        if block == DECOMPOSE:
            listing = await self._said(ep, "split", steps, count=str(self.parts))
            parts: list[Node] = []
            for part in listed(listing.text)[: self.parts]:
                parts.append(await self._said(ep, "part", [*steps, *parts], part=part))
            last = await self._said(ep, "combine", [*steps, *parts])
            said = [one.text for one in [*parts, last] if one.text]
            return replace(last, text=BETWEEN.join(said)) if last.finish not in SILENT else last
        if block == DEBATE:
            plans = await self._said(ep, "plans", steps)
            return await self._said(ep, "debate", steps, plans=plans.text)
        return await self._said(ep, BLOCKS[block], steps)

    async def _said(self, ep: Episode, name: str, steps: Sequence[Node], **places: str) -> Node:
        prompt = await asked(ep, self.blocks[name], trace=_trace(steps) or "(nothing yet)", **places)
        most = ep.params.max_tokens if name == "terminate" else min(self.step_tokens, ep.params.max_tokens)
        [said] = await ep.generate([Ask(prompt=prompt, max_tokens=most, parent=steps[-1].call if steps else None)])
        return replace(Node.whole(said), text=said.text.strip())

    async def _noted(
        self, ep: Episode, number: int, state: Sequence[float], block: int, allowed: Sequence[int], node: Node
    ) -> None:
        """Note a transition, where texts are scored: state, action, which were allowed (as bits), the score after."""
        if self.scorer is None:
            return
        [scored] = await self.scorer.judge(ep, [node])
        told: dict[str, Any] = {f"state_{number}_{at}": value for at, value in enumerate(state)}
        told |= {f"action_{number}": block, f"allowed_{number}": sum(1 << one for one in allowed)}
        ep.note(**told, **({} if scored.score is None else {f"score_{number}": scored.score}))


def _trace(steps: Sequence[Node]) -> str:
    return BETWEEN.join(step.text for step in steps if step.text)


def _ratings(text: str) -> list[float] | None:
    """Return seven ratings of 1 to 3 as -1, 0, 1: the last seven numbers that are there."""
    found = [int(number) for number in re.findall(r"\b[123]\b", text)]
    return [number - 2.0 for number in found[-RATINGS:]] if len(found) >= RATINGS else None
