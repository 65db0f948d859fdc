"""Diversity of thought in one call (Naik et al. 2023, IDIV-SE): one text solves the problem by all approaches."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.div_se import APPROACHES, Approaches
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import SILENT, only, retold
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import Pattern, PromptTemplate


class IdivSe(Strategy):
    """Ask for all approaches in one text under numbered headings, and take the answer of most parts.

    The row is the first part with that answer; where fewer than two parts are found, the whole text. Errors of one part
    reach the next ones (about 6% in a note on the paper).
    """

    version: ClassVar[int] = 1

    approaches: Approaches = APPROACHES
    """The approaches, as for ``div_se``."""
    heading: Pattern = r"(?im)^[\s#>*_(]*approach\W{0,3}(\d+)\b[\s*_:.)]*"
    """How a part begins, with its number as the first group."""
    template: PromptTemplate = (
        "{prompt}\n\nSolve the problem in {count} ways, each from the beginning, one after the other. Begin each with "
        "a "
        'line "Approach 1:", "Approach 2:", and so on, and end each with its own final answer.\n\n{approaches}'
    )
    """A template, filled in with {prompt}, {count} and {approaches}."""
    answers: Answers = Answers()
    """How answers are read, for the vote."""

    def worst(self, prompt: int, most: int) -> Bill:
        listed = sum(at_most(approach) + 8 for approach in self.approaches)
        return Bill(1, prompt + at_most(self.template) + listed, 0, most)

    async def play(self, ep: Episode) -> Result:
        listed = "\n".join(f"Approach {number}: {text}" for number, text in enumerate(self.approaches, 1))
        turns = retold(ep, self.template, count=str(len(self.approaches)), approaches=listed)
        [said] = await ep.generate([Ask(prompt=await ep.render(turns))])
        whole = Node.whole(said)
        parts = self.parts(whole.text)
        ep.note(parts=len(parts))
        if len(parts) < 2 or whole.finish in SILENT:
            return only(whole)
        nodes = [replace(whole, text=part) for part in parts]
        votes = self.answers.vote(ep, nodes, [1.0] * len(nodes))
        ep.note(agreeing=len(votes))
        return only(nodes[votes[0]] if votes else whole)

    def parts(self, text: str) -> list[str]:
        """Return the parts of a text, whose headings count up from 1."""
        found = list[re.Match[str]]()
        for match in re.finditer(self.heading, text):
            if int(match[1]) == len(found) + 1:
                found.append(match)
        ends = [match.start() for match in found[1:]] + [len(text)] * bool(found)
        return [text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)]
