"""Workers who see each other's text (Rodionov et al. 2025, "Hogwild! Inference"; Group Think), in turns."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import ClassVar

from pydantic import Field
from rapidfuzz.distance import Levenshtein

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.steps import StepRule
from operators.strategies.strategy import Strategy
from operators.strategies.talking import SILENT, only, retold
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate

ALIKE = 0.3
"""Steps of a normalised edit distance below this are the same work."""


@dataclass
class _Table:
    """What lies before all workers: the finished steps in order, each one's unfinished step, and who wrote how many."""

    history: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    open: dict[int, str] = field(default_factory=dict[int, str])
    counts: dict[int, int] = field(default_factory=dict[int, int])
    since: int = 0
    tokens: int = 0


class Workers(Strategy):
    """Several workers write at once, in turns: in each turn every one goes on, and sees what all have written before.

    Follows Hogwild!'s layout: the finished steps of all, the others' unfinished ones, one's own. What is lost: there a
    worker sees every token of the others at once; here it sees them after a turn, so that two may do the same step
    (note ``alike``), all wait for the longest step, and each turn reads the whole history again. With ``chunk`` tokens
    a turn unfinished steps are seen too, for many more calls. Of interest for training data and study, and dear.
    """

    version: ClassVar[int] = 2
    awaits: ClassVar[dict[str, str]] = {"answered": "an answer in a box in a step of one of its workers"}
    steps: ClassVar[bool] = True

    names: tuple[str, ...] = Field(default=("Alice", "Bob"), min_length=1)
    """One worker each; Group Think has more of them."""
    chunk: int = Field(default=0, ge=0)
    """Tokens of a turn; 0: a whole step."""
    turns: int = Field(default=16, ge=1)
    """Most turns."""
    step_tokens: int = Field(default=256, ge=1)
    """The most tokens of a turn where a turn is a step."""
    check_every: int = Field(default=256, ge=1)
    """After so many tokens of all workers together, steps begin with ``check``."""
    ends: tuple[str, ...] = (".\n\n", "!\n\n", "?\n\n", "]\n\n", "$\n\n")
    """What a step ends with: a sentence, and a blank line."""
    forbidden: tuple[str, ...] = ("#", "</think>")
    """What a worker can't write: a step ends before it."""
    check: str = "Quick check: am I doing redundant work? (yes/no): "
    """What a step begins with now and then, so that a worker looks at what others do."""
    finish_cue: str = "\n\nThere is no time left, so the final answer now: \\boxed{"
    """What is put behind all steps to ask for the answer."""
    finish_tokens: int = Field(default=16, ge=0)
    """How long the answer may be that is asked for where no step had one; 0: none is asked for."""
    template: PromptTemplate = (
        "{prompt}\n\nYou are {name}, one of {count} workers on this problem: {names}. You all see what the others "
        "write. Split the work, say who does what, and leave what somebody else does. Write short steps with a blank "
        "line behind each. Whoever knows the final answer writes it in \\boxed{}.\n\nSteps so far:\n\n{history}\n\n"
        "Work in progress of others:\n\n{others}\n\nYour own next step:"
    )
    """A template, filled in with {prompt}, {name}, {names}, {count}, {history} and {others}."""

    def worst(self, prompt: int, most: int) -> Bill:
        count, turn = len(self.names), min(self.chunk or self.step_tokens, most)
        names = max(map(at_most, self.names)) + 24 + at_most(self.check)
        base = prompt + at_most(self.template) + count * names
        read = sum(base + count * before * (turn + names) for before in range(self.turns + 1))
        finish = Bill(1, base + at_most(self.finish_cue) + count * self.turns * (turn + names), 0, self.finish_tokens)
        return Bill(self.turns, read, 0, self.turns * turn).times(count) + finish

    async def play(self, ep: Episode) -> Result:
        table, node, critical = _Table(), Node(), 0
        for _ in range(self.turns):
            asks = [await self._ask(ep, table, worker) for worker in range(len(self.names))]
            said = await ep.generate(asks)
            node = Node.whole(said[0])
            if all(one.finish in SILENT for one in said):
                break
            critical += max(one.tokens for one in said)
            steps: list[tuple[int, str]] = []
            for worker, one in enumerate(said):
                mark = next((mark for mark in self.forbidden if one.text.endswith(mark)), "")
                text = asks[worker].prefix + one.text.removesuffix(mark)
                table.since, table.tokens = table.since + one.tokens, table.tokens + one.tokens
                table.open[worker] = text
                if (one.finish != "length" or not self.chunk) and one.finish not in SILENT:
                    table.open[worker] = ""
                    steps += [(worker, text)] if text.strip() else []
            pairs = list(combinations([text for _, text in steps], 2))
            alike = sum(Levenshtein.normalized_distance(*pair) < ALIKE for pair in pairs)
            ep.note(pairs=len(pairs), alike=alike, turns=1)
            answers = [step for step in steps if StepRule().ends(step[1], 0)]
            for worker, text in [*(step for step in steps if step not in answers), *reversed(answers)]:
                table.counts[worker] = table.counts.get(worker, 0) + 1
                table.history.append((worker, table.counts[worker], text.strip()))
            if answers:
                conflict = len({_boxed(text) for _, text in answers}) > 1
                ep.note(conflict=conflict, critical_tokens=critical, answered=1)
                return only(
                    Node(self._told(table), steps=1, ended=True, finish="stop", tokens=table.tokens, call=node.call)
                )
        ep.note(critical_tokens=critical, answered=0)
        return await self._finished(ep, table, node)

    async def _ask(self, ep: Episode, table: _Table, worker: int) -> Ask:
        others = [f"{name} (goes on): {table.open[other]}" for other, name in enumerate(self.names)
                  if other != worker and table.open.get(other)]  # fmt: skip
        own = table.open.get(worker, "")
        if not own and table.since > self.check_every:
            own, table.since = self.check, 0
        turns = retold(
            ep, self.template, name=self.names[worker], names=", ".join(self.names), count=str(len(self.names)),
            history=self._told(table) or "(none)", others="\n\n".join(others) or "(none)",
        )  # fmt: skip
        most = min(self.chunk or self.step_tokens, ep.params.max_tokens)
        return Ask(prompt=await ep.render(turns), prefix=own, max_tokens=most, stop=(*self.ends, *self.forbidden))

    def _told(self, table: _Table) -> str:
        return "\n\n".join(f"{self.names[worker]} [{number}]: {text}" for worker, number, text in table.history)

    async def _finished(self, ep: Episode, table: _Table, node: Node) -> Result:
        """Ask for the answer alone, where no step had one."""
        told = self._told(table)
        if not table.history or not self.finish_tokens:
            return only(Node(told, tokens=table.tokens, ended=True, finish="unfinished") if told else node)
        prefix = told + self.finish_cue
        [said] = await ep.generate([Ask(prefix=prefix, max_tokens=self.finish_tokens, temperature=0.0)])
        return only(
            Node(
                f"{prefix}{said.text}",
                tokens=table.tokens + said.tokens,
                ended=True,
                finish=said.finish,
                call=said.call,
            )
        )


def _boxed(text: str) -> str:
    return re.sub(r"\s", "", text.rpartition("boxed")[2])
