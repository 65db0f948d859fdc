"""Debate (Du et al. 2023, "Improving Factuality and Reasoning ... through Multiagent Debate")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, SILENT, conversation, since, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import fill


class Debate(Strategy):
    """Several agents answer; in each later round each sees the others' last answers, and answers again.

    Follows the published code but for ties of the final vote: the answer that most agents gave in the round before
    wins, else the first agent's. An agent whose call is refused keeps its last answer.
    """

    version: ClassVar[int] = 1

    agents: int = Field(default=3, ge=1)
    rounds: int = Field(default=2, ge=1)
    """The first one, in which nobody sees anybody, included."""
    others: str = (
        "These are other agents' solutions of the problem:\n\n{others}\n\nTake them as advice, and not as the truth. "
        "Give a complete and improved solution of your own."
    )
    """A template, filled in with {others}."""
    alone: str = "Check your solution once more. Give a complete and improved one."
    """What is said where there are no others."""
    answers: Answers = Answers()

    @property
    def rows(self) -> int:
        return self.agents

    def worst(self, prompt: int, most: int) -> Bill:
        turn = most + max(at_most(self.others), at_most(self.alone)) + (self.agents - 1) * (most + 8) + 16
        read = sum(prompt + before * turn for before in range(self.rounds))
        return Bill(self.rounds, read, 0, self.rounds * most).times(self.agents)

    async def play(self, ep: Episode) -> Result:
        talks: list[list[str]] = [[] for _ in range(self.agents)]
        rounds: list[list[Node]] = []
        while len(rounds) < self.rounds and not ep.capped and (not rounds or there(rounds[-1])):
            last = rounds[-1] if rounds else []
            for agent, node in enumerate(last):
                talks[agent] += [node.text, self._turn(last, agent)]
            prompts = [await ep.render(conversation(ep, *talk)) if talk else None for talk in talks]
            calls = [node.call for node in last] or [None] * self.agents
            said = await ep.generate([Ask(prompt=one, parent=call) for one, call in zip(prompts, calls, strict=True)])
            new = [
                replace(Node.whole(one, slot), turns=since(ep, *talk, one.text))
                for slot, (one, talk) in enumerate(zip(said, talks, strict=True))
            ]
            rounds.append([old if one.finish in SILENT else one for old, one in zip(last or new, new, strict=True)])
        named = self.answers.classes(self.answers.read(ep, [node.text for one in rounds for node in one]))
        classes = [named[at : at + self.agents] for at in range(0, len(named), self.agents)]
        ep.note(**{f"agree_{number}": max(map(_count(one), one)) for number, one in enumerate(classes)})
        ep.note(changed=sum(old != new for one, two in pairwise(classes) for old, new in zip(one, two, strict=True)))
        before = _count(classes[-2] if len(classes) > 1 else [])
        votes = [1.0 + before(name) / (self.agents**2 + 1) for name in classes[-1]]
        places = self.answers.vote(ep, rounds[-1], votes)
        chosen = next(iter(places), 0 if there(rounds[-1]) else None)
        return Result(tuple(rounds[-1]), chosen, "nothing" if chosen is None else "done")

    def _turn(self, last: Sequence[Node], agent: int) -> str:
        """Return what an agent is told of the others' last answers."""
        said = [node.text for other, node in enumerate(last) if other != agent and node.finish not in SILENT]
        return fill(self.others, {"others": BETWEEN.join(f"Agent: {text}" for text in said)}) if said else self.alone


def _count(names: Sequence[str | None]) -> Callable[[str | None], int]:
    """Return how often each answer was given; none is given never."""
    return lambda name: 0 if name is None else names.count(name)
