"""The scripted engine: answers from a table, with latency, failures and log-probs on demand. For tests; runs no model.

A completion is drawn by the request's seed alone, so two runs and two runners give equal rows. Tokens are
white-space-separated words.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import xxhash

from cluster.engines.content import TEXT, shown
from cluster.engines.scripted_tokens import ScriptedTokens
from cluster.engines.token_tree import grow
from operators.engine import (
    Completion,
    Engine,
    EngineDied,
    EngineError,
    EngineInfo,
    Request,
    Scored,
    ScoreRequest,
    ended_by,
)
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.engine import EngineSpec, SamplingParams, ScriptedSpec

T = TypeVar("T")


class ScriptedEngine(Engine):
    """See ``schemas.engine.ScriptedSpec``."""

    def __init__(self, spec: ScriptedSpec) -> None:
        self.spec = spec
        self.info = EngineInfo(
            model=spec.model,
            revision="scripted",
            family="scripted",
            context=spec.context,
            logprobs="raw" if spec.logprobs else "none",
            seeds="exact",
            stops="told" if spec.told_stops else "untold",
        )
        self.capacity = spec.slots
        self._bounds = list(accumulate(spec.weights)) if spec.weights else None
        self._stumbled: set[str] = set()
        self._asleep = False
        self._log = os.open(spec.call_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if spec.call_log else None

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, revision); there are no weights, so the revision is a constant."""
        assert isinstance(spec, ScriptedSpec)
        return spec.model, "scripted"

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        if not chat:
            return "".join(turn["content"] for turn in shown(messages, tools, TEXT))
        told = f"<|tools|>\n{json.dumps(list(tools), ensure_ascii=False)}\n" if tools else ""
        return told + "".join(map(_written, messages)) + "<|assistant|>\n"

    async def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    async def generate(self, request: Request) -> list[Completion]:
        self._note(request.request_id, request.prompt)
        draws = random.Random(request.seed)
        if self.spec.latency or self.spec.jitter:
            # drawn apart from the answer: how long a request takes must not change what it says
            await asyncio.sleep(self.spec.latency + self.spec.jitter * random.Random(request.seed + 2).random())
        else:
            await asyncio.sleep(0)
        self._fail(request, random.Random(request.seed + 1))
        made = [
            self._complete(request.prompt + request.prefix, request.params, request.seed, draws)
            for _ in range(request.n)
        ]
        answered = [ended_by(self._cut(completion, request.cut_below), request.params) for completion in made]
        self._count(*((answer.prompt_tokens, answer.completion_tokens) for answer in answered))
        return [self._told(answer) for answer in answered]

    def _count(self, *tokens: tuple[int, int]) -> None:
        """Write down what was used, by its own count."""
        if self.spec.token_log:
            with open(self.spec.token_log, "a") as log:
                log.writelines(f"{prompt} {completion}\n" for prompt, completion in tokens)

    def _told(self, answer: Completion) -> Completion:
        """Return an answer with what is said of its tokens, and of how it ended."""
        times = {"right": 1.0, "missing": 0.0, "half": 0.5, "double": 2.0}[self.spec.usage]
        if times != 1.0:
            tokens = {name: int(getattr(answer, name) * times) for name in ("prompt_tokens", "completion_tokens")}
            answer = replace(answer, **tokens)
        if answer.finish_reason == "stop_string" and not self.spec.told_stops:
            return replace(answer, finish_reason="stop", stop=None)
        return answer

    @staticmethod
    def _cut(completion: Completion, below: float | None) -> Completion:
        """Cut an unsure completion in half."""
        sure = completion.lowest_group_confidence
        if below is None or sure is None or sure >= below:
            return completion
        words = completion.text.split()
        return replace(completion, text=" ".join(words[: len(words) // 2]), finish_reason="cut", stop=None)

    def _note(self, line: str, text: str) -> None:
        """Write down what was asked, and die of what kills."""
        if self._log is not None:
            os.write(self._log, f"{line}\n".encode())
        if self.spec.deadly is not None and self.spec.deadly in text:
            raise EngineDied(f"the scripted engine died of '{self.spec.deadly}'")
        if self._asleep and not line.startswith("#"):
            raise AssertionError(f"request {line} reached an engine that sleeps")

    async def score(self, request: ScoreRequest) -> Scored:
        """Score by a hash of the text: in [0, 1], or as log-probs of its words."""
        self._note(f"score {request.request_id}", request.prompt + request.completion)
        await asyncio.sleep(self.spec.latency)
        text = request.prompt + request.completion
        if any(text.endswith(refused) for refused in self.spec.refuse):
            raise EngineError(f"request {request.request_id} can't be scored, as scripted")
        tokens = len(text.split())
        self._count((tokens, 0))
        return replace(self._score(request, text), prompt_tokens=tokens)

    def _score(self, request: ScoreRequest, text: str) -> Scored:
        known = _longest(self.spec.scores, text)
        if request.kind == "reward":
            return Scored(_hash(text) if known is None else known)
        if request.kind == "steps":
            *steps, _ = request.completion.split(request.step_tag)
            if not steps:
                raise EngineError(f"request {request.request_id}: no step tag '{request.step_tag}'")
            told = [(step, _longest(self.spec.scores, step)) for step in steps]
            values = tuple(_hash(step) if value is None else value for step, value in told)
            return Scored(min(values), values)
        values = tuple(math.log(1.0 - 0.9 * _hash(word)) for word in request.completion.split())
        return Scored(sum(values), values)

    async def grow_tree(self, request: TreeRequest) -> Tree:
        """Search by tokens among those of the table."""
        self._note(request.request_id, request.prompt)
        await asyncio.sleep(self.spec.latency)
        found = grow(ScriptedTokens(self.spec.next_tokens), request)
        self._count((found.took.read + found.took.scorer_read, found.took.written))
        return found

    async def sleep(self) -> None:
        self._note(f"#sleep {self.spec.model}", "")
        self._asleep = True

    async def wake(self) -> None:
        self._note(f"#wake {self.spec.model}", "")
        self._asleep = False

    def _fail(self, request: Request, draws: random.Random) -> None:
        transient, permanent = draws.random(), draws.random()
        if permanent < self.spec.fail_permanent:
            raise EngineError(f"request {request.request_id} was refused, as scripted")
        if transient < self.spec.fail_transient and request.request_id not in self._stumbled:
            self._stumbled.add(request.request_id)
            raise EngineError(f"request {request.request_id} failed once, as scripted", transient=True)

    def _complete(self, prompt: str, params: SamplingParams, seed: int, draws: random.Random) -> Completion:
        answers = _longest(self.spec.by_prefix, prompt)
        if answers is None:
            answers = next((found for key, found in self.spec.by_prompt.items() if key in prompt), self.spec.answers)
        bounds = self._bounds if answers is self.spec.answers else None
        text = draws.choices(answers, cum_weights=bounds)[0].replace("{prompt}", prompt).replace("{seed}", str(seed))
        finish, hit = "stop", None
        for stop in params.stop:
            if stop in text:
                text, finish, hit = text.split(stop)[0], "stop_string", stop
        words = text.split()
        if len(words) > params.max_tokens:
            text, words, finish, hit = " ".join(words[: params.max_tokens]), words[: params.max_tokens], "length", None
        tokens = max(1, len(words))
        sum_logprob = sum(math.log(1.0 - 0.9 * draws.random()) for _ in range(tokens)) if self.spec.logprobs else None
        sure = 20.0 * draws.random() if self.spec.logprobs else None
        return Completion(
            text=text,
            finish_reason=finish,
            stop=hit,
            prompt_tokens=len(prompt.split()),
            completion_tokens=tokens,
            sum_logprob=sum_logprob,
            mean_logprob=None if sum_logprob is None else sum_logprob / tokens,
            lowest_group_confidence=sure,
            tail_confidence=sure,
            bottom_group_confidence=sure,
            mean_confidence=sure,
        )

    async def close(self) -> None:
        if self._log is not None:
            if self.spec.takes_turns is not None:
                self._note(f"#close {self.spec.model}", "")
            os.close(self._log)
            self._log = None


def _written(turn: Turn) -> str:
    """Return a turn as the script's model reads it: its text, and as JSON what else it has."""
    more = {name: value for name, value in turn.items() if name not in ("role", "content")}
    if not isinstance(turn["content"], str):
        more["parts"] = turn["content"]
    text = turn["content"] if isinstance(turn["content"], str) else ""
    told = f"{json.dumps(more, ensure_ascii=False)}\n" if more else ""
    return f"<|{turn['role']}|>\n{text}\n{told}"


def _longest(table: Mapping[str, T], text: str) -> T | None:
    """Return what a table has for the longest key that a text ends with."""
    fitting = [key for key in table if text.endswith(key)]
    return table[max(fitting, key=len)] if fitting else None


def _hash(text: str) -> float:
    return xxhash.xxh3_64_intdigest(text.encode()) / 2**64
