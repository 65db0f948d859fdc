"""Strategies in tests: engines that need no model, an episode's setting, and one configuration of every kind."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.engines.scripted import ScriptedEngine
from cluster.engines.scripted_tokens import LETTERS, ScriptedTokens
from cluster.engines.token_tree import grow
from operators.engine import Completion, Engine, EngineError, EngineInfo, Request, Scored, ScoreRequest, ended_by
from operators.sample.episodes import play
from operators.strategies.calls import Call, MemoryJournal
from operators.strategies.setting import Setting
from operators.strategies.strategy import Strategy, strategy_class
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.engine import SamplingParams, ScriptedSpec
from schemas.identity import sample_seed
from tests.drift.tools import Dry

PROBLEM = {
    "problem_key": "k", "problem_id": "p", "prompt": "Q", "messages": None,
    "metadata": '{"objects": ["7", "8", "B", "C"]}',
}  # fmt: skip
SMALL = {"max_steps": 4, "step_tokens": 6}
"""A rule for steps in trees of letters."""

KINDS: list[dict[str, Any]] = [
    {"name": "best_of", "width": 4},
    {"name": "best_of", "width": 4, "select": "majority"},
    {"name": "best_of", "width": 4, "select": "weighted", "scorer": "certainty"},
    {"name": "stepwise", "rule": SMALL},
    {"name": "stepwise", "rule": {"max_steps": 3, "step_tokens": 4, "stop": ("\n",), "end": None, "empties": 1}},
    {"name": "joint", "short_tokens": 8},
    {"name": "beam", "width": 4, "beam": 2, "rule": SMALL},
    {"name": "beam", "width": 4, "beam": 2, "rule": SMALL, "lookahead": 2, "scorer": "reward", "distinct": False},
    {"name": "beam", "width": 4, "beam": 2, "rule": SMALL, "ended": "kept", "scorer": "truth"},
    {"name": "beam", "width": 6, "beam": 3, "rule": SMALL, "ended": "shrink", "scorer": "random"},
    {"name": "dvts", "width": 4, "beam": 2, "rule": SMALL},
    {"name": "dvts", "width": 4, "beam": 2, "rule": SMALL, "siblings": True, "lookahead": 1, "scorer": "constant"},
    {"name": "particles", "width": 4, "rule": SMALL},
    {"name": "particles", "width": 4, "rule": SMALL, "ended": "kept", "weights": "ratio", "select": "draw"},
    {"name": "particles", "width": 4, "rule": SMALL, "resampling": "systematic", "weights": "ratio",
     "anneal": {"start": 4.0, "end": 0.5, "rounds": 3}, "scorer": "rating"},
    {"name": "entropic", "width": 4, "rule": SMALL},
    {"name": "entropic", "width": 4, "rule": SMALL, "by": "entropy", "threshold": 1.0, "early": 1.0},
    {"name": "gibbs", "width": 3, "rule": SMALL, "sweeps": 3},
    {"name": "gibbs", "width": 3, "rule": SMALL, "keep": "last", "references": 2, "weights": "ratio"},
    {"name": "rebase", "width": 6, "rule": SMALL},
    {"name": "rebase", "width": 6, "rule": SMALL, "keep_share": 0.5, "select": "weighted", "scorer": "certainty"},
    {"name": "astar", "rule": SMALL, "expansions": 6, "branch": 3},
    {"name": "astar", "rule": SMALL, "expansions": 3, "branch": 2, "width": 3, "batch": 2, "cost": "neglog"},
    {"name": "mcts", "rule": SMALL, "paths": 4, "branch": 3},
    {"name": "mcts", "rule": SMALL, "paths": 3, "branch": 2, "first": "prior", "scheme": "moves", "lookahead": 1},
    {"name": "tot_bfs", "rule": SMALL, "keep": 2, "branch": 3},
    {"name": "tot_bfs", "rule": SMALL, "keep": 2, "branch": 3, "propose": "list", "draw": True, "scorer": "prm"},
    {"name": "tot_bfs", "rule": SMALL, "keep": 2, "branch": 2, "evaluate": "vote", "votes": 3},
    {"name": "tools", "style": "programs", "rounds": 3, "uses": 2},
    {"name": "tot_dfs", "rule": SMALL, "limit": 6},
    {"name": "tools", "rounds": 2},
    {"name": "saffron", "width": 4, "min_new_tokens": 2, "max_new_tokens": 8},
    {"name": "saffron", "width": 3, "min_new_tokens": 0, "max_new_tokens": 40, "top_p": 1.0, "temperature": 0.5},
    {"name": "tot_dfs", "rule": SMALL, "limit": 8, "propose": "list", "worth": "mean", "threshold": None, "share": 0.5},
]  # fmt: skip
"""Each strategy, in each of its forms."""


def named(kind: Mapping[str, Any]) -> str:
    return "-".join(str(value) for key, value in kind.items() if key != "rule")


def made(kind: Mapping[str, Any]) -> Strategy:
    fields = dict(kind)
    return strategy_class(fields.pop("name"))(**fields)


class Wild(Engine):
    """Writes letters by the seed and what was said so far: steps that are long, empty, cut short, or the last.

    Args:
        most: always write as many tokens as are allowed, and never stop.
        shuffled: answer in an order that is different each time.
    """

    capacity = 64

    def __init__(self, most: bool = False, shuffled: bool = False, refuse: float = 0.0) -> None:
        self.info = EngineInfo("wild", "1", "wild", 100_000, "raw", seeds="exact")
        self.most, self.refuse = most, refuse
        self.asked: list[str] = []
        self.longest = 0
        self._order = random.Random() if shuffled else None

    async def _wait(self) -> None:
        for _ in range(0 if self._order is None else self._order.randrange(8)):
            await asyncio.sleep(0)

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        return " ".join(str(turn["content"]) for turn in messages)

    async def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    async def generate(self, request: Request) -> list[Completion]:
        self.asked.append(request.request_id.partition("/")[2].partition("/")[2])
        await self._wait()
        draws = random.Random(f"{request.seed}/{request.prefix}/{request.prompt}")
        if draws.random() < self.refuse:
            raise EngineError("refused")
        read = len((request.prompt + request.prefix).split())
        return [self._one(request, read, draws) for _ in range(request.n)]

    def _one(self, request: Request, read: int, draws: random.Random) -> Completion:
        most = request.params.max_tokens
        if "\n```\n" in request.params.stop and draws.random() < 0.7:
            text, finish = f"```python\nprint({draws.randrange(9)})", "stop_string"
        elif self.most:
            text, finish = " ".join(draws.choice("ab") for _ in range(most)) + " ", "length"
            if request.params.stop and draws.random() < 0.2:
                text, finish = "", "stop_string"
        elif request.prompt != "Q":
            said = ["sure", "LIKELY", "impossible", "BEST: 2", "1. A b\n2) B\n- C", "nothing", "a\nb\n\nc d"]
            text, finish = draws.choice(said), "stop"
        else:
            letters = [draws.choice("AB") for _ in range(draws.randrange(1, 5))]
            text, finish = " ".join(letters), draws.choice(("stop_string", "stop_string", "stop", "length"))
            text = "" if finish == "stop_string" and draws.random() < 0.1 else text
            if finish == "stop" or draws.random() < 0.1:
                text += f" \\boxed{{{len(request.prefix) % 3}}}"
            if finish == "stop_string" and not request.params.stop:
                finish = "stop"
        tokens = min(most, len(text.split()))
        self.longest = max(self.longest, tokens)
        stop = request.params.stop[0] if finish == "stop_string" else None
        made = Completion(text, finish, read, tokens, 0, sum_logprob=-draws.random() * (tokens + 1), stop=stop)
        return ended_by(made, request.params)

    async def score(self, request: ScoreRequest) -> Scored:
        self.asked.append(request.request_id.partition("/")[2].partition("/")[2])
        await self._wait()
        draws = random.Random(request.prompt + request.completion)
        if draws.random() < self.refuse:
            raise EngineError("too long")
        tokens = await self.count_tokens(request.prompt + request.completion)
        count = request.completion.count(request.step_tag) if request.kind == "steps" else 1
        values = tuple(draws.random() for _ in range(count))
        if request.kind == "likelihood":
            values = tuple(math.log(value) for value in values)
        return Scored(values[-1], values, tokens)

    async def grow_tree(self, request: TreeRequest) -> Tree:
        self.asked.append(request.request_id.partition("/")[2].partition("/")[2])
        await self._wait()
        if random.Random(request.prompt).random() < self.refuse:
            raise EngineError("refused")
        never = {"": dict.fromkeys(LETTERS, (1.0, 1.0))}
        return grow(ScriptedTokens(never if self.most else {}), request)

    async def close(self) -> None:
        pass


def tree(depth: int, letters: str = "AB", ends: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """Return a script: each step is a letter and a blank line, and the answer behind the last is the path.

    Args:
        ends: paths that end before, and the text that they end with.
    """
    script: dict[str, tuple[str, ...]] = {}
    for length in range(depth + 1):
        for path in map("".join, itertools.product(letters, repeat=length)):
            said = tuple(f"{letter}\n\n." for letter in letters) if length < depth else (f"\\boxed{{{path}}}",)
            script["Q" + steps(path)] = (ends or {}).get(path, said) if isinstance(said, str) else said
    script |= {"Q" + steps(path): (text,) for path, text in (ends or {}).items()}
    return script


def steps(path: str) -> str:
    return "".join(f"{letter}\n\n" for letter in path)


def scripted(script: Mapping[str, Iterable[str]], scores: Mapping[str, float] | None = None, **more: Any) -> Engine:
    """Return an engine that goes by a script; scores are of paths, as a reward model gives them (``TEXT``)."""
    by_prefix = {key: tuple(answers) for key, answers in script.items()}
    return ScriptedEngine(ScriptedSpec(by_prefix=by_prefix, scores=dict(scores or {}), **more))


def setting(engine: Engine, calls: Iterable[Call] = (), index: int = 0, max_tokens: int = 24, **more: Any) -> Setting:
    params = SamplingParams(max_tokens=max_tokens, **more)
    seed = sample_seed(0, PROBLEM["problem_key"] or "", index)
    about = (PROBLEM, index, seed, "Q", "", params)
    return Setting(*about, {"policy": engine, "scorer": engine}, MemoryJournal(calls), tools={"sandbox": Dry()})


def played(strategy: Strategy, at: Setting) -> list[dict[str, Any]]:
    """Return an episode's rows; the answer (7) is known to who says that it looks at it, and to nobody else."""
    if strategy.shows_answers:
        at = replace(at, problem={"answer": "7", **at.problem})
    return asyncio.run(play(strategy, at, "run"))


def facts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return json.loads(rows[0]["episode_facts"])


def chosen(rows: list[dict[str, Any]]) -> str:
    [row] = [row for row in rows if row["chosen"]]
    return row["completion"]
