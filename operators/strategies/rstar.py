"""rStar (Qi et al. 2024, "Mutual Reasoning Makes Smaller LLMs Stronger"): a tree of reasoning actions, and a check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate, fill

CRITIC = "critic"


@dataclass
class _State:
    """A place of the tree: the trace so far, and the values of the walks through it."""

    node: Node
    problem: str
    action: str | None = None
    depth: int = 0
    ended: bool = False
    visits: int = 0
    total: float = 0.0
    children: list[_State] | None = field(default=None, repr=False)


class RStar(Strategy):
    """Walk down a tree of five actions, ``rollouts`` times; reward an end by how many sampled answers agree with it.

    Actions: one step, all the rest, the next sub-question with its answer, that answer anew (after a sub-question), and
    the problem rephrased (first, and once). Then (``mutual``) a critic completes each candidate's trace from beginnings
    of it; a candidate whose answer is reached often enough is kept. The published check compares candidates with the
    gold answer and gives up where none is right; here nobody sees it.
    """

    version: ClassVar[int] = 1
    optional_roles = (CRITIC,)

    rollouts: int = Field(default=16, ge=1)
    """How many walks down the tree are made."""
    c: float = Field(default=2.0, ge=0.0)
    """Weight of what is little visited: value + c sqrt(ln N_parent / N)."""
    depth: int = Field(default=5, ge=1)
    """The most actions of a walk."""
    votes: int = Field(default=10, ge=1)
    """Sampled answers of the action "all the rest"; the most frequent one is its answer, and their share its reward."""
    steps_wide: int = Field(default=1, ge=1)
    """Children of the actions step, question and anew."""
    mutual: bool = True
    """Have a critic complete the candidates' traces."""
    keep: Literal["mid", "loose", "strict"] = "mid"
    """A candidate is kept if half, any, or all of the completions reach its answer."""
    cuts: int = Field(default=4, ge=1)
    """Beginnings of each candidate's trace, of 20% to 50% of its words."""
    temperature: float = Field(default=0.8, gt=0.0)
    """The temperature of all actions."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """The truncation of all actions."""
    step_tokens: int = Field(default=256, ge=1)
    """The most tokens of an action that isn't "all the rest"."""
    prompts: dict[str, PromptTemplate] = {
        "step": "{prompt}\n\nSolution so far:\n{trace}\n\nGive only the next step.",
        "rest": "{prompt}\n\nSolution so far:\n{trace}\n\nGo on to the end, and give the final answer in \\boxed{}.",
        "question": (
            "{prompt}\n\nSolution so far:\n{trace}\n\nAsk the next smaller question that helps, and answer it in a "
            "line that "
            'begins with "The answer is". If the problem itself can be answered now, say so in \\boxed{}.'
        ),
        "anew": "{prompt}\n\nSolution so far:\n{trace}\n\nAnswer its last question anew, independently.",
        "rephrase": "{prompt}\n\nRestate this problem as a numbered list of conditions and one question. Lose nothing.",
    }
    """Prompt templates, each filled in with {prompt} and {trace}."""
    check: PromptTemplate = "{prompt}\n\nComplete this solution, and give the final answer in \\boxed{}:\n{trace}"
    """A template, filled in with {prompt} and {trace}."""
    answers: Answers = Answers()
    """How answers are read."""

    def worst(self, prompt: int, most: int) -> Bill:
        trace = self.depth * self.step_tokens + most
        asking = prompt + self.step_tokens + max(map(at_most, self.prompts.values())) + trace
        short = 3 * self.steps_wide + 1
        calls = self.rollouts * self.depth
        walked = Bill(
            self.votes + short, (self.votes + short) * asking, 0, self.votes * most + short * self.step_tokens
        ).times(calls)
        checks = self.rollouts * self.cuts if self.mutual else 0
        return walked + Bill(1, prompt + self.step_tokens + at_most(self.check) + trace, 0, most).times(checks)

    async def play(self, ep: Episode) -> Result:
        root = _State(Node(), ep.problem["prompt"])
        ends: list[_State] = []
        for rollout in range(self.rollouts):
            end = await self._walk(ep, root, rollout)
            if end.node.score is not None and end not in ends:
                ends.append(end)
            if ep.capped:
                break
        ep.note(candidates=len(ends))
        if not ends:
            error = None if root.children else root.node.error
            finish = "cap" if ep.capped else "error" if error else "unfinished"
            return Result((replace(root.node.end(finish), error=error),), None, "nothing")
        kept = await self._checked(ep, ends) if self.mutual else ends
        ep.note(kept=len(kept))
        return Result((self._winner(ep, ends, kept).node,), 0)

    async def _walk(self, ep: Episode, root: _State, rollout: int) -> _State:
        way = [root]
        while not way[-1].ended and not ep.capped:
            here = way[-1]
            if here.children is None:
                here.children = await self._expanded(ep, here)
            new = [child for child in here.children if not child.visits]
            if new:
                way.append(new[int(ep.uniform(f"pick/{rollout}/{len(way) - 1}") * len(new))])
            elif here.children:
                tried = math.log(max(1, here.visits))
                worth = [
                    child.total / child.visits + self.c * math.sqrt(tried / child.visits) for child in here.children
                ]
                way.append(here.children[worth.index(max(worth))])
            else:
                break
        for state in way:
            state.visits, state.total = state.visits + 1, state.total + (way[-1].node.score or 0.0)
        return way[-1]

    async def _expanded(self, ep: Episode, here: _State) -> list[_State]:
        """Return a place's children: ends have as score what share of the sampled answers agrees with theirs."""
        actions = ["rest"] * self.votes + ["step", "question"] * self.steps_wide
        actions += ["anew"] * self.steps_wide if here.action == "question" else []
        actions += ["rephrase"] if here.action is None else []
        asks: list[Ask] = []
        for action in actions:
            text = fill(self.prompts[action], {"prompt": here.problem, "trace": here.node.text or "(nothing yet)"})
            prompt = await ep.render([{"role": "user", "content": text}])
            most = None if action == "rest" else self.step_tokens
            ask = Ask(prompt=prompt, max_tokens=most, parent=here.node.call)
            asks.append(replace(ask, temperature=self.temperature, top_p=self.top_p))
        said = [Node.whole(one) for one in await ep.generate(asks)]
        here.node = replace(here.node, error=next((one.error for one in said if one.error), here.node.error))
        named = self.answers.classes(self.answers.read(ep, [node.text for node in said]))
        votes = [name for name in named[: self.votes] if name is not None]
        children: list[_State] = []
        for action, one, name in zip(actions, said, named, strict=True):
            if not there([one]) or not one.text.strip():
                continue
            if action == "rephrase":
                start = Node(call=one.call, tokens=one.tokens)
                children.append(_State(start, one.text.strip(), action, here.depth))
                continue
            answered = name is not None and (action == "rest" or "\\boxed" in one.text)
            last = action == "rest" or answered or here.depth + 1 >= self.depth
            text = f"{here.node.text}\n\n{one.text.strip()}".strip()
            share = votes.count(name or "") / self.votes if answered else None
            more = {"tokens": here.node.tokens + one.tokens, "sum_logprob": None, "score": share}
            node = replace(one, text=text, parent=here.node, steps=here.node.steps + 1, **more)
            children.append(_State(node, here.problem, action, here.depth + 1, last))
        return _distinct(children)

    async def _checked(self, ep: Episode, ends: Sequence[_State]) -> list[_State]:
        asks: list[Ask] = []
        for end in ends:
            words = end.node.text.split(" ")
            for cut in range(self.cuts):
                share = 0.2 + 0.3 * cut / max(1, self.cuts - 1)
                begun = " ".join(words[: max(1, round(share * len(words)))])
                prompt = await ep.render(
                    [{"role": "user", "content": fill(self.check, {"prompt": end.problem, "trace": begun})}], CRITIC
                )
                asks.append(Ask(prompt=prompt, role=CRITIC, temperature=self.temperature, top_p=self.top_p))
        said = await ep.generate(asks)
        need = {"loose": 1, "strict": self.cuts, "mid": self.cuts / 2}[self.keep]
        kept: list[_State] = []
        for at, end in enumerate(ends):
            mine = [one.text for one in said[at * self.cuts : (at + 1) * self.cuts]]
            own, *others = self.answers.classes(self.answers.read(ep, [end.node.text, *mine]))
            if others.count(own) >= need:
                kept.append(end)
        return kept

    def _winner(self, ep: Episode, ends: Sequence[_State], kept: Sequence[_State]) -> _State:
        """Return the most confident end of the answer with the largest share of confidence and of survivors."""
        named = self.answers.classes(self.answers.read(ep, [end.node.text for end in ends]))
        total = math.fsum(end.node.score or 0.0 for end in ends) or 1.0

        def worth(end: _State) -> tuple[float, float]:
            alike = [other for other, name in zip(ends, named, strict=True) if name == named[ends.index(end)]]
            alive = [other for other in alike if other in kept]
            sure = math.fsum(other.node.score or 0.0 for other in alive) / total
            return sure + len(alive) / len(alike) if kept else 0.0, end.node.score or 0.0

        return max(kept or ends, key=worth)


def _distinct(children: Sequence[_State]) -> list[_State]:
    """Return children in order; of sampled rests only the first of the most frequent answer, of others no repeat."""
    rests = [child for child in children if child.action == "rest" and child.node.score]
    best = max(rests, key=lambda child: child.node.score or 0.0, default=None)
    found: list[_State] = []
    for child in children:
        if child.action == "rest" and child is not best:
            continue
        if not any(child.node.text == other.node.text and child.problem == other.problem for other in found):
            found.append(child)
    return found
