"""Steps: what one continuation adds to a node, and how nodes grow by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.talking import conversation
from operators.strategies.words import POLICY, Ask, Node, Said
from operators.text import Pattern
from schemas.settings import Settings

_BOXED = r"\\boxed\s*\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}[^{}]*)*\}"


class StepRule(Settings):
    """Where a step ends, and where a text does.

    Defaults are those of search-and-learn and probabilistic-inference-scaling, as far as the sampling stage says none.
    """

    stop: tuple[str, ...] = Field(default=("\n\n",), min_length=1)
    """Separators: a step ends behind the first of them."""
    keep_stop: bool = True
    """Put the separator behind the step that it ended."""
    step_tokens: int = Field(default=512, ge=1)
    """The most tokens of a step; one that is cut by this goes on in the next."""
    max_steps: int = Field(default=40, ge=1)
    """The last of these steps has no separator: it runs to the end."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of a text; by default that of the sampling stage."""
    end: Pattern | None = _BOXED
    """A text also ends with the step in which a match of this regular expression ends."""
    empties: int = Field(default=2, ge=1)
    """How often a step is asked for, in all, where only white space comes before the separator."""
    temperature: float | None = Field(default=None, ge=0.0)
    """By default that of the sampling stage."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """By default that of the sampling stage."""

    def most(self, max_tokens: int) -> int:
        """Return the most tokens of a text, given the sampling stage's."""
        return self.max_tokens or max_tokens

    def written(self, max_tokens: int, lookahead: int = 0) -> int:
        """Return the most tokens that are written over one path and its look-aheads, where no step is repeated."""
        most = self.most(max_tokens)
        step = min(self.step_tokens, most)
        if lookahead == 0:
            return (self.max_steps - 1) * step + most
        return (lookahead + 1) * (self.max_steps * step + most)

    def read(self, prompt: int, max_tokens: int, lookahead: int = 0) -> int:
        """Return the most tokens that are read over one path and its look-aheads: each step reads all before it."""
        most = self.most(max_tokens)
        step = min(self.step_tokens, most)
        before = [min((done + lookahead) * step, most) for done in range(self.max_steps)]
        return (lookahead + 1) * sum(prompt + tokens for tokens in before)

    def ends(self, text: str, begun: int) -> bool:
        """Return whether a match of ``end`` ends in what stands behind the first ``begun`` characters."""
        return self.end is not None and any(match.end() > begun for match in re.finditer(self.end, text))


async def grow(
    ep: Episode,
    nodes: Sequence[Node],
    rule: StepRule,
    times: int | Sequence[int] = 1,
    temperature: float | None = None,
    slots: Sequence[int] | None = None,
    whole: bool = False,
    role: str = POLICY,
) -> list[list[Node]]:
    """Continue each live node by a step, as one group of calls; return the children of each.

    Args:
        times: continuations of a node: one call that asks for as many completions.
        temperature: other than the rule's.
        slots: of the nodes, where their places aren't; seeds depend on them.
        whole: the step is the last, and runs to the end of the text.
        role: who writes it.
    """
    counts = [times] * len(nodes) if isinstance(times, int) else list(times)
    temperature = rule.temperature if temperature is None else temperature
    most = rule.most(ep.params.max_tokens)
    led = "" if role == POLICY else ep.setting.lead
    prompt = None if role == POLICY else await ep.render(conversation(ep), role)
    asks = [
        Ask(
            role=role,
            prompt=prompt,
            prefix=led + node.text,
            max_tokens=max(1, most - node.tokens if last else min(rule.step_tokens, most - node.tokens)),
            stop=() if last else rule.stop,
            keep_stop=rule.keep_stop,
            temperature=temperature,
            top_p=rule.top_p,
            n=count,
            parent=node.call,
            prefix_tokens=node.tokens,
        )
        for node, count in zip(nodes, counts, strict=True)
        for last in [whole or node.steps == rule.max_steps - 1]
    ]
    said = await ep.generate(asks, slots)
    owner = [place for place, count in enumerate(counts) for _ in range(count)]
    greedy = (ep.params.temperature if temperature is None else temperature) == 0
    for attempt in range(1, 1 if greedy else rule.empties):
        empty = [at for at, one in enumerate(said) if _is_empty(one)]
        if not empty:
            break
        again = [replace(asks[owner[at]], n=1) for at in empty]
        more = await ep.generate(again, again=[_again(said[at], attempt) for at in empty])
        for at, one in zip(empty, more, strict=True):
            said[at] = replace(one, call=said[at].call) if _is_empty(one) else one
    children: list[list[Node]] = [[] for _ in nodes]
    firsts = list(range(len(nodes))) if slots is None else slots
    for slot, (at, one) in enumerate(zip(owner, said, strict=True)):
        slot = firsts[at] if max(counts, default=1) == 1 else slot
        children[at].append(_child(nodes[at], one, rule, most, slot, whole or nodes[at].steps == rule.max_steps - 1))
    return children


def _is_empty(said: Said) -> bool:
    return said.finish == "stop_string" and not said.text.strip()


def _again(said: Said, attempt: int) -> str:
    """Return the path of the call that repeats one: ``0.3/r1``, of the third completion of several ``0.3/r1.2``."""
    call, _, child = (said.call or "").partition(":")
    return f"{call}/r{attempt}" + (f".{child}" if child else "")


def _child(node: Node, said: Said, rule: StepRule, most: int, slot: int, last: bool) -> Node:
    if said.finish == "cap":
        return replace(node.end("cap"), slot=slot)
    text, tokens = node.text + said.text, node.tokens + said.tokens
    known = node.sum_logprob is not None and said.sum_logprob is not None
    if said.finish in ("stop", "error"):
        finish = said.finish
    elif rule.ends(text, len(node.text)) or _is_empty(said):
        finish = "stop"
    elif said.finish == "cut":
        finish = "cut"
    else:
        finish = "length" if tokens >= most or said.tokens == 0 or last else ""
    return Node(
        text=text,
        parent=node,
        steps=node.steps + 1,
        ended=bool(finish),
        finish=finish,
        sum_logprob=(node.sum_logprob or 0.0) + (said.sum_logprob or 0.0) if known else None,
        step_logprob=None if said.sum_logprob is None else said.sum_logprob / max(1, said.tokens),
        cut=said.finish == "length",
        tokens=tokens,
        prompt_tokens=node.prompt_tokens if node.steps else said.prompt_tokens,
        cached=node.cached if node.steps else said.cached,
        lineage=slot if node.lineage < 0 else node.lineage,
        slot=slot,
        call=said.call,
        reasoning=(node.reasoning or "") + (said.reasoning or "") or None,
        tool_calls=said.tool_calls or node.tool_calls,
        error=said.error,
    )
