"""Proposals: how a tree of thoughts comes to the children of its nodes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.scorers import Rating, Scorer
from operators.strategies.search import Search
from operators.strategies.steps import StepRule, grow
from operators.strategies.words import POLICY, Ask, Bill, Node, Said
from operators.text import PromptTemplate, fill


class Proposing(Search):
    """Base of trees of thoughts. ``rule.max_steps`` is the depth; the last thought runs to the end of the text."""

    rule: StepRule = StepRule(max_steps=4)
    scorer: Scorer = Rating()
    """By default the model's own word for each text: sure, likely, impossible."""
    branch: int = Field(default=5, ge=1)
    """Children of a node."""
    propose: Literal["sample", "list"] = "sample"
    """Children are continuations, one by one; or the lines of one reply that lists next steps."""
    list_template: PromptTemplate = (
        "Problem: {prompt}\n\nSolution so far:\n{completion}\n\nPropose up to {count} different next steps, one a "
        "line, each only one step long, and nothing else."
    )
    """A template, filled in with {prompt}, {completion} and {count}."""
    list_tokens: int = Field(default=512, ge=1)
    """The most tokens of a reply that lists next steps."""

    async def proposed(self, ep: Episode, nodes: Sequence[Node]) -> list[list[Node]]:
        """Return the children of each node, without scores; all nodes are equally deep."""
        last = nodes[0].steps == self.rule.max_steps - 1
        if self.propose == "sample" or last:
            return await grow(ep, nodes, self.rule, self.branch if self.propose == "sample" else 1)
        asks: list[Ask] = []
        for node in nodes:
            places = {"prompt": ep.problem["prompt"], "completion": node.text, "count": str(self.branch)}
            prompt = await ep.render([{"role": "user", "content": fill(self.list_template, places)}])
            asks.append(
                Ask(
                    prompt=prompt,
                    max_tokens=self.list_tokens,
                    temperature=self.rule.temperature,
                    top_p=self.rule.top_p,
                    parent=node.call,
                )
            )
        said = await ep.generate(asks)
        found = [await self._listed(ep, node, one) for node, one in zip(nodes, said, strict=True)]
        made = itertools.count()
        return [[_made(child, next(made)) for child in one] for one in found]

    async def _listed(self, ep: Episode, node: Node, said: Said) -> list[Node]:
        if said.finish == "cap":
            return [node.end("cap")]
        if said.finish == "error":
            return [Node(text=node.text, parent=node, ended=True, finish="error", error=said.error)]
        lines = [re.sub(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*", "", line).strip() for line in said.text.splitlines()]
        children: list[Node] = []
        for line in [line for line in lines if line][: self.branch]:
            text = node.text + line + self.rule.stop[0]
            tokens = node.tokens + await ep.engine(POLICY).count_tokens(line)
            ends = self.rule.ends(text, len(node.text))
            full = tokens >= self.rule.most(ep.params.max_tokens)
            child = Node(text, node, node.steps + 1, sum_logprob=None, tokens=tokens, lineage=node.lineage)
            child = child.end("stop" if ends else "length") if ends or full else child
            children.append(child)
        return children

    def longest(self, most: int) -> int:
        """Return the most tokens of a text."""
        return self.rule.most(most) + (self.list_tokens if self.propose == "list" else 0)

    def proposing(self, prompt: int, most: int, expansions: int) -> Bill:
        """Return the most that the children of so many nodes take, of whatever depth."""
        if self.propose == "sample":
            return self.opening(prompt, most, expansions, self.branch, 0)
        read = prompt + at_most(self.list_template) + self.longest(most)
        tries = self.rule.empties
        return Bill(tries, tries * read, 0, max(self.list_tokens, tries * self.rule.most(most))).times(expansions)


def _made(node: Node, slot: int) -> Node:
    return replace(node, slot=slot, lineage=slot if node.lineage < 0 else node.lineage)
