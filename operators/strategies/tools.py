"""Tools: the model asks for programs and functions to be run, reads what they say, and goes on.

Two ways to ask: calls as OpenAI's API has them (or in Hermes' tags), for models that were taught to; or a fenced Python
program, as in tool-integrated reasoning (Gou et al. 2024, "ToRA", who write the output behind the program in the same
completion; here it is a turn of its own, so that training can tell what the model said from what it was told).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.tool_calls import FENCE, ToolCall, fenced_program, told_calls, untagged
from operators.strategies.toolbox import AnyTool, Python
from operators.strategies.words import Ask, Bill, Node, Result, Said
from schemas.conversation import Turn, spoken

TURN_TOKENS = 64
"""What a chat template puts around a turn, at most."""


class Tools(Strategy):
    """Answer with the help of tools, in at most ``rounds`` rounds of them and ``uses`` calls.

    The row's completion is the model's last turn; ``turns`` has the whole conversation since the problem.
    ``max_tokens`` of the sampling stage are those that the model writes in all its turns.
    """

    version: ClassVar[int] = 2

    offers: tuple[AnyTool, ...] = Field(default=(Python(),), min_length=1)
    """What the model may call."""
    style: Literal["calls", "programs"] = "calls"
    """``programs``: a fenced Python program that ends a turn is run."""
    rounds: int = Field(default=4, ge=1)
    """How often tools are run; the turn after the last time is the answer."""
    uses: int = Field(default=8, ge=1)
    """Calls of tools in an episode; who asks for more is told that there are none left."""
    answers_as: str = "tool"
    """The role of a tool's turn in the chat template; ``user`` for templates that know no tools."""
    spent: str = "error: no more calls are left; answer with what you have"
    """What the model is told when it makes one call too many."""

    @model_validator(mode="after")
    def _fits(self) -> Tools:
        names = [tool.called for tool in self.offers]
        if len(set(names)) < len(names):
            raise ValueError(f"offers: two tools are called the same: {names}")
        if self.style == "programs" and "python" not in names:
            raise ValueError("style=programs runs programs: offers must have {kind: python}")
        return self

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(sorted({tool.needs for tool in self.offers}))

    def worst(self, prompt: int, most: int) -> Bill:
        described = len(json.dumps(self.offered).encode())
        told = (self.uses + self.rounds) * (max(tool.output for tool in self.offers) * 4 + 2 * TURN_TOKENS)
        return Bill(self.rounds + 1, (self.rounds + 1) * (prompt + described + most + told), 0, most)

    @property
    def offered(self) -> list[dict[str, Any]]:
        return [tool.described() for tool in self.offers] if self.style == "calls" else []

    async def play(self, ep: Episode) -> Result:
        specs = self.offered
        turns: list[Turn] = []
        used: list[ToolCall] = []
        node = Node()
        for round_ in range(self.rounds + 1):
            left = ep.params.max_tokens - node.tokens
            if left < 1:
                return Result((replace(node, turns=tuple(turns)).end("length"),), 0, "max_steps")
            prompt = await ep.render([*ep.turns, *spoken(turns)], tools=specs) if specs or turns else None
            last = round_ == self.rounds
            stop = (FENCE,) if self.style == "programs" and not last else ()
            [said] = await ep.generate([Ask(prompt=prompt, max_tokens=left, stop=stop, parent=node.call)])
            node = _after(node, said)
            asked = [] if last or said.finish in ("error", "cap") else self._read(said, str(round_))
            called = asked if self.style == "calls" else []
            turns.append(_turn("assistant", untagged(said.text, bool(called)).rstrip("\n"), calls=called))
            if not asked:
                break
            told = await self._use(ep, asked, used)
            used += asked
            answers = asked if self.answers_as == "tool" else [None] * len(asked)
            turns += [_turn(self.answers_as, text, call) for call, text in zip(answers, told, strict=True)]
        ep.note(tool_calls=len(used), tool_rounds=len([turn for turn in turns if turn["role"] == "assistant"]) - 1)
        return Result((replace(node, turns=tuple(turns)),), 0)

    def _read(self, said: Said, place: str) -> list[ToolCall]:
        return told_calls(said, place) if self.style == "calls" else fenced_program(said, place)

    async def _use(self, ep: Episode, asked: list[ToolCall], used: list[ToolCall]) -> list[str]:
        """Run the calls of one turn, in order; return what each says."""
        known = {tool.called: tool for tool in self.offers}

        def use(place: int) -> str:
            call, before = asked[place], [*used, *asked[:place]]
            if len(before) >= self.uses:
                return self.spent
            tool = known.get(call.name)
            if call.arguments is None or tool is None:
                return call.wrong or f"error: there is no tool '{call.name}'; there are {', '.join(known)}"
            earlier = [one.arguments for one in before if one.name == call.name and one.arguments is not None]
            return tool.use(call.arguments, earlier, ep.setting.tools[tool.needs])

        return await ep.act("tool", [[call.name, call.arguments] for call in asked], use)


def _after(node: Node, said: Said) -> Node:
    """Return the state after another turn: the last turn's text, and the tokens of all."""
    whole = Node.whole(said)
    if node.call is None:
        return whole
    total = None if node.sum_logprob is None or said.sum_logprob is None else node.sum_logprob + said.sum_logprob
    first = {"prompt_tokens": node.prompt_tokens, "cached": node.cached, "parent": node}
    return replace(whole, tokens=node.tokens + said.tokens, steps=node.steps + 1, sum_logprob=total, **first)


def _turn(role: str, content: str, answers: ToolCall | None = None, calls: list[ToolCall] | None = None) -> Turn:
    """Return a turn as it is stored."""
    told = [
        {"id": one.call_id, "type": "function", "function": {"name": one.name, "arguments": one.arguments or {}}}
        for one in calls or []
    ]
    return {
        "role": role,
        "content": content,
        "name": None if answers is None else answers.name,
        "tool_calls": json.dumps(told) if told else None,
        "tool_call_id": None if answers is None else answers.call_id,
        "parts": None,
    }
