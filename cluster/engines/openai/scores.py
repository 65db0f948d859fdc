"""Scores from a server: rewards by vLLM's ``classify``, steps by its ``pooling``, likelihoods by completions with echo.

None of these is part of OpenAI's own API; a server that doesn't have them is refused in plain words.
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

from yarl import URL

from cluster.engines.openai.address import beside
from cluster.engines.openai.prompts import chat
from cluster.engines.openai.usage import read_prompt
from operators.engine import EngineError, Scored, ScoreRequest
from schemas.engine import OpenAISpec
from schemas.errors import BadInput


class Server(Protocol):
    """What asking for scores needs of the engine: where its server is, and a way to ask it."""

    @property
    def spec(self) -> OpenAISpec: ...

    async def ask(self, url: URL, payload: bytes) -> Any: ...

    async def most_tokens(self, prompt: str) -> int: ...


async def score(engine: Server, request: ScoreRequest) -> Scored:
    """Return the score of one completion.

    Raises:
        BadInput: the server gives no scores of this kind.
        EngineError: as for completions; also where the answer can't be understood.
    """
    kinds = {"reward": _reward, "steps": _steps, "likelihood": _likelihood}
    try:
        return await kinds[request.kind](engine, request)
    except (ValueError, TypeError, LookupError) as error:
        if isinstance(error, BadInput):
            raise
        raise EngineError(f"{engine.spec.url} gave no score of kind '{request.kind}': {error!r}") from error


async def _reward(engine: Server, request: ScoreRequest) -> Scored:
    answer = await _ask(engine, "classify", {**_text(engine, request), "use_activation": False})
    [found] = answer["data"]
    return Scored(_last(found["probs"]), (), *await _usage(engine, request, answer))


async def _steps(engine: Server, request: ScoreRequest) -> Scored:
    text = _text(engine, request)
    tokens: list[int] = (await _ask(engine, "tokenize", _renamed(text)))["tokens"]
    tag: list[int] = (await _ask(engine, "tokenize", {"prompt": request.step_tag, "add_special_tokens": False}))[
        "tokens"
    ]
    if len(tag) != 1:
        raise BadInput(f"step_tag '{request.step_tag}' is {len(tag)} tokens of '{engine.spec.model}'; it must be one")
    answer = await _ask(engine, "pooling", {**text, "task": "token_classify", "use_activation": False})
    values: list[list[float]] = answer["data"][0]["data"]
    inside = sum(token == tag[0] for token in (await _ask(engine, "tokenize", _only(request)))["tokens"])
    places = [at for at, token in enumerate(tokens) if token == tag[0]][-inside:] if inside else []
    if not places:
        raise EngineError(f"request {request.request_id}: the completion has no step tag '{request.step_tag}'")
    chosen = [values[at] for at in places] if len(values) == len(tokens) else values[-len(places) :]
    steps = tuple(map(_last, chosen))
    return Scored(min(steps), steps, *await _usage(engine, request, answer))


async def _likelihood(engine: Server, request: ScoreRequest) -> Scored:
    if engine.spec.api != "completions":
        raise BadInput("likelihoods are scored through the completions endpoint: set engine.api=completions")
    prompt, asked = request.prompt, {"max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0.0}
    answer = await _ask(engine, "v1/completions", {**asked, "prompt": prompt + request.completion})
    [choice] = answer["choices"]
    found = choice.get("logprobs") or {}
    if not str(choice.get("text", "")).startswith(prompt) or not found.get("text_offset"):
        raise BadInput(f"{engine.spec.url} gives no log-probs of a prompt (echo with logprobs), so it can't score")
    pairs = list(zip(found["text_offset"], found["token_logprobs"], strict=True))
    prompt_tokens, _, estimated = await _usage(engine, request, answer)
    pairs = pairs[: -1 if estimated else prompt_tokens]  # the last one was written
    steps = tuple(float(value) for offset, value in pairs if offset >= len(prompt) and value is not None)
    return Scored(sum(steps), steps, *await _usage(engine, request, answer))


def _last(logits: list[float]) -> float:
    """Return the last label's probability, or the reward itself where there is one label; as the vLLM engine does."""
    if len(logits) == 1:
        return float(logits[0])
    most = max(logits)
    return math.exp(logits[-1] - most) / sum(math.exp(logit - most) for logit in logits)


def _text(engine: Server, request: ScoreRequest) -> dict[str, Any]:
    """Return the part of a body that says what is scored: text, or a conversation with its answer."""
    if engine.spec.api == "completions":
        return {"input": request.prompt + request.completion}
    return {**chat(request.prompt, request.completion), "add_generation_prompt": False}


def _renamed(text: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": text["input"]} if "input" in text else text


def _only(request: ScoreRequest) -> dict[str, Any]:
    return {"prompt": request.completion, "add_special_tokens": False}


async def _usage(engine: Server, request: ScoreRequest, answer: dict[str, Any]) -> tuple[int, int, bool]:
    """Return (prompt tokens, cached ones, whether they are the most that there can be for want of a count)."""
    return read_prompt(answer.get("usage"), await engine.most_tokens(request.prompt + request.completion))


async def _ask(engine: Server, place: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask an endpoint beside ``/v1``."""
    payload = json.dumps({"model": engine.spec.model, **body}, ensure_ascii=False).encode()
    return await engine.ask(beside(engine.spec, place), payload)
