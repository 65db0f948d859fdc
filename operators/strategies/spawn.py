"""Threads (Pan et al. 2025, "Learning Adaptive Parallel Reasoning", APR): a text asks for children, and goes on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import continued, only, retold
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate, fill


class Spawn(Strategy):
    """Write until a block of messages is closed; each message is worked on by a child that sees nothing else.

    The block is replaced by the children's results, and the text goes on. Follows APR's code: children don't spawn, and
    a parent that begins to write results itself is made to ask for them. Equal messages are asked once. Of a model that
    wasn't trained for it, ``template`` explains how; for one that was set it to "{prompt}". The episode's note has
    ``critical_tokens``, the longest chain of tokens that wait for one another.
    """

    version: ClassVar[int] = 1
    steps: ClassVar[bool] = True
    awaits: ClassVar[dict[str, str]] = {"blocks": "blocks of messages (<spawn>)"}

    opening: str = "<spawn>"
    """What begins a block of messages."""
    close: str = "</spawn>"
    """What ends it."""
    thread: str = "thread"
    """The tag around each message."""
    results: tuple[str, str] = ("<results>", "</results>")
    """What stands around the children's results."""
    max_children: int = Field(default=10, ge=1)
    """Messages of a block that are worked on; others are answered as "not run"."""
    max_rounds: int = Field(default=8, ge=1)
    """Blocks; a further one is answered as "not run", and the text is then written to its end."""
    child_tokens: int = Field(default=512, ge=1)
    """The most tokens of a child."""
    child_template: PromptTemplate | None = None
    """A template, filled in with {message}, and {prompt}; by default a child sees the message alone."""
    returns: Literal["answer", "last_paragraph", "all"] = "last_paragraph"
    """What comes back of a child's text."""
    answers: Answers = Answers()
    """How answers are read."""
    template: PromptTemplate = (
        "{prompt}\n\nYou can have parts of the work done in parallel. Write a block of messages, one for each part:\n"
        "<spawn>\n<thread>Find the prime factors of 91.</thread>\n<thread>Find the prime factors of 119.</thread>\n"
        "</spawn>\nThen stop. Whoever works on a message sees nothing but this message, so put all that is needed into "
        "it. You get a <results> block with what was found, and go on from there. Spawn where parts don't need each "
        "other, at most {children} at once, and end with the final answer."
    )
    """A template, filled in with {prompt} and {children}."""

    def worst(self, prompt: int, most: int) -> Bill:
        calls, children = 2 * self.max_rounds + 2, self.max_rounds * self.max_children
        given = self.max_rounds * (self.max_children * (self.child_tokens + 24) + most + 64)
        read = calls * (prompt + at_most(self.template) + most + given)
        child = prompt + at_most(self.child_template or "") + most
        written = most + calls + children * self.child_tokens
        return Bill(calls + children, read + children * child, 0, written)

    async def play(self, ep: Episode) -> Result:
        plain = self.template == "{prompt}"
        turns = retold(ep, self.template, children=str(self.max_children))
        asking = Ask(prompt=None if plain else await ep.render(turns), stop=(self.close, self.results[0]))
        node, stops, blocks, confused, critical = Node(), 0, 0, False, 0
        while True:
            last = confused or blocks > self.max_rounds or stops > 2 * self.max_rounds
            left = max(1, ep.params.max_tokens - node.tokens)
            ask = replace(asking, prefix=node.text, parent=node.call, max_tokens=left)
            [said] = await ep.generate([replace(ask, stop=()) if last else ask])
            node, critical = continued(node, said), critical + said.tokens
            if said.finish != "stop_string" or node.tokens >= ep.params.max_tokens:
                break
            stops += 1
            if node.text.endswith(self.results[0]):  # it makes results up: let it ask for them
                node = replace(node, text=node.text.removesuffix(self.results[0]) + self.opening)
                continue
            before, opened, block = node.text.removesuffix(self.close).rpartition(self.opening)
            messages = [text.strip() for text in re.findall(rf"(?s)<{self.thread}>(.*?)</{self.thread}>", block)]
            if not messages:
                if opened and not block.strip():
                    continue
                confused, found = True, ["not understood"]
                before = node.text
            elif (blocks := blocks + 1) > self.max_rounds:
                found = ["not run"] * len(messages)
            else:
                found, longest = await self._children(ep, messages, node)
                critical += longest
            listed = "".join(f"\n{number}. {text}" for number, text in enumerate(found, 1))
            node = replace(node, text=f"{before}{self.results[0]}{listed}\n{self.results[1]}\n")
        ep.note(blocks=blocks, critical_tokens=critical, confused=confused)
        return only(node)

    async def _children(self, ep: Episode, messages: Sequence[str], parent: Node) -> tuple[list[str], int]:
        """Return the result of each message, and the tokens of the longest child."""
        distinct = list(dict.fromkeys(messages[: self.max_children]))
        asks: list[Ask] = []
        for message in distinct:
            places = {"prompt": ep.problem["prompt"], "message": message}
            text = fill(self.child_template, places) if self.child_template else message
            prompt = await ep.render([{"role": "user", "content": text}])
            asks.append(Ask(prompt=prompt, max_tokens=self.child_tokens, parent=parent.call))
        said = await ep.generate(asks)
        texts = [self._result(ep, one.text) if one.finish == "stop" else "no result" for one in said]
        ep.note(children=len(distinct), messages=len(messages))
        found = dict(zip(distinct, texts, strict=True))
        run = messages[: self.max_children]
        return [found[one] for one in run] + ["not run"] * (len(messages) - len(run)), max(one.tokens for one in said)

    def _result(self, ep: Episode, text: str) -> str:
        if self.returns == "answer":
            return self.answers.read(ep, [text])[0] or "no result"
        paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
        return text.strip() if self.returns == "all" else paragraphs[-1] if paragraphs else "no result"
