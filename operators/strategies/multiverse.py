"""Multiverse (Yang et al. 2025): a text forks where its model marks what can be thought at once, and joins again."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import SILENT, continued, only
from operators.strategies.words import Ask, Bill, Node, Result

GOAL, PATH = "</Goal>", "</Path>"


class Multiverse(Strategy):
    """Write until a Goal is closed, write the Path of each of its Outlines side by side, and go on behind them all.

    The tags are those of ``synthesize.parallel``; a Path may fork again. Two things of the paper's engine are lost:
    there all paths begin at the same position and the conclusion goes on from the longest one, here the conclusion
    follows their plain concatenation; and here the conclusion reads all paths again. What is left of ``max_tokens`` at
    a fork is shared evenly by the paths and what follows them, so that a text is never longer than another's. Models
    that weren't trained for it don't write the tags (see ``blocks`` in the episodes' notes): it is one plain text then.
    """

    version: ClassVar[int] = 1
    steps: ClassVar[bool] = True
    awaits: ClassVar[dict[str, str]] = {"blocks": "<Goal> blocks with two <Outline> or more"}

    most: int = Field(default=8, ge=2)
    """Outlines of a block that are followed."""
    blocks: int = Field(default=4, ge=1)
    """Goals in one text, or in one path; what comes after them isn't forked."""
    depth: int = Field(default=2, ge=1)
    """How deep forks are in one another."""

    @property
    def cautions(self) -> tuple[str, ...]:
        return ("strategy 'multiverse' forks where the model writes <Parallel> and <Goal>: only trained models do",)

    def worst(self, prompt: int, most: int) -> Bill:
        calls = 1
        for _ in range(self.depth):  # of a text whose paths take so many calls
            calls = self.blocks * (1 + self.most * calls) + 1
        given = calls * (at_most("\n<Path>8:" + PATH) + at_most("\n<Conclusion>"))
        return Bill(calls, calls * (prompt + most + given), 0, most + calls)

    async def play(self, ep: Episode) -> Result:
        node = await self._written(ep, "", ep.params.max_tokens, 0)
        ep.note(blocks=0)
        return only(node)

    async def _written(self, ep: Episode, begun: str, left: int, depth: int) -> Node:
        """Return what is written behind a beginning, in at most ``left`` tokens."""
        node, forks = Node(), 0
        while True:
            goal = (GOAL,) if depth < self.depth and forks < self.blocks else ()
            ask = Ask(
                prefix=begun + node.text,
                max_tokens=max(1, left - node.tokens),
                stop=(*goal, *((PATH,) if depth else ())),
                parent=node.call,
            )
            [said] = await ep.generate([ask])
            node = continued(node, said)
            rest = left - node.tokens
            if said.finish != "stop_string" or not node.text.endswith(GOAL) or rest <= 0:
                return node.end("length") if rest <= 0 and said.finish == "stop_string" else node
            forks += 1
            outlines = re.findall(r"(?s)<Outline>(.*?)</Outline>", node.text.rpartition("<Goal>")[2])[: self.most]
            share = rest // (len(outlines) + 1)
            if len(outlines) < 2 or share < 1:
                continue
            ep.note(blocks=1, paths=len(outlines))
            forked = begun + node.text
            paths: dict[str, Node] = await ep.together(
                {f"path{forks}-{k}": self._path(forked, k, share, depth) for k in range(1, len(outlines) + 1)}
            )
            text = "".join(
                f"\n<Path>{k}:{path.text.removesuffix(PATH)}{PATH}" for k, path in enumerate(paths.values(), 1)
            )
            tokens = sum(path.tokens for path in paths.values())
            node = replace(node, text=f"{node.text}{text}\n<Conclusion>", tokens=node.tokens + tokens)
            if all(path.finish in SILENT for path in paths.values()):
                return node.end(next(iter(paths.values())).finish)

    def _path(self, begun: str, number: int, left: int, depth: int) -> Callable[[Episode], Coroutine[Any, Any, Node]]:
        async def write(branch: Episode) -> Node:
            return await self._written(branch, f"{begun}\n<Path>{number}:", left, depth + 1)

        return write
