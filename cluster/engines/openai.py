"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp's, a gateway, a vendor. One request a sample, no streaming.

How many requests may be in flight adapts to the server: it is halved when the server says that it has too much (429,
503), and grows back by one for every round that succeeds. The key is read from the environment where it is used; it is
no field of anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import aiohttp

from operators.engine import Completion, EngineError, EngineInfo, Request
from schemas.engine import EngineSpec, OpenAISpec
from schemas.errors import BadInput
from schemas.redaction import protect, redact

TRANSIENT = frozenset({408, 409, 425, 500, 502, 504})
OVERLOADED = frozenset({429, 503})
BYTES_PER_TOKEN = 4
"""No tokenizer is known here: prompts are measured by this rule of thumb, and the server has the last word."""


class OpenAIEngine:
    """See ``schemas.engine.OpenAISpec``. A rendered prompt is text (completions) or the conversation as JSON (chat)."""

    def __init__(self, spec: OpenAISpec) -> None:
        self.spec = spec
        self.capacity = spec.concurrency
        model, revision = self.resolve(spec)
        self.info = EngineInfo(
            model=model,
            revision=revision,
            family="openai",
            context=spec.context,
            logprobs="raw" if spec.logprobs else "none",
        )
        self._key = os.environ.get(spec.key_env, "")
        protect(self._key)
        self._limit = AdaptiveLimit(spec.concurrency)
        self._session: aiohttp.ClientSession | None = None
        place = "chat/completions" if spec.api == "chat" else "completions"
        self._url = f"{spec.url.rstrip('/')}/{place}"

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, revision); what stands behind a server's alias can't be known, so it must be told.

        Raises:
            BadInput: the URL carries credentials.
        """
        assert isinstance(spec, OpenAISpec)
        if "@" in spec.url.partition("://")[2].partition("/")[0]:
            raise BadInput(f"engine.url carries credentials; put the key in ${spec.key_env} instead")
        return spec.model, spec.revision or "unversioned"

    async def render(self, messages: Sequence[dict[str, str]], *, chat: bool = True) -> str:
        if self.spec.api == "chat":
            return json.dumps(list(messages), ensure_ascii=False)
        if chat:
            raise BadInput(
                "the completions endpoint applies no chat template: set sample.chat=false, or engine.api=chat"
            )
        return "".join(turn["content"] for turn in messages)

    async def count_tokens(self, prompt: str) -> int:
        return -(-len(prompt.encode()) // BYTES_PER_TOKEN)

    async def generate(self, request: Request) -> list[Completion]:
        """Return ``request.n`` completions; a server that ignores n is asked again with other seeds."""
        completions: list[Completion] = []
        while len(completions) < request.n:
            seed = (request.seed + len(completions)) % 2**31
            answer = await self._post(self._body(request, request.n - len(completions), seed))
            fresh = self._read(answer)
            if not fresh:
                raise EngineError(f"{self.spec.url} gave no choices", transient=True)
            completions += fresh
        return completions[: request.n]

    def _body(self, request: Request, n: int, seed: int) -> dict[str, Any]:
        params = request.params
        body: dict[str, Any] = {
            "model": self.spec.model,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": seed,
        }
        if n > 1:
            body["n"] = n
        if params.stop:
            body["stop"] = list(params.stop)
        if params.top_k:
            body["top_k"] = params.top_k
        if params.min_p:
            body["min_p"] = params.min_p
        if self.spec.api == "chat":
            body["messages"] = json.loads(request.prompt)
            if request.prefix:  # vLLM's and SGLang's way to have a turn continued
                body["messages"].append({"role": "assistant", "content": request.prefix})
                body |= {"continue_final_message": True, "add_generation_prompt": False}
            if self.spec.logprobs:
                body["logprobs"] = True
        else:
            body["prompt"] = request.prompt + request.prefix
            if self.spec.logprobs:
                body["logprobs"] = 1
        return {**body, **self.spec.extra_body}

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request, waiting while the server says that it has too much.

        Raises:
            EngineError: transient for faults of the way or the server, permanent where the request was refused.
        """
        payload = json.dumps(body, ensure_ascii=False).encode()
        until, pause = time.monotonic() + self.spec.patience, 0.25
        while True:
            async with self._limit:
                status, text, retry_after = await self._send(payload)
            if status == 200:
                self._limit.succeeded()
                try:
                    return json.loads(text)
                except ValueError as error:
                    raise EngineError(f"{self.spec.url} gave no JSON: {_words(text)}", transient=True) from error
            if status not in OVERLOADED or time.monotonic() > until:
                raise EngineError(
                    f"{self.spec.url} answered {status}: {_words(text)}", transient=status in TRANSIENT | OVERLOADED
                )
            self._limit.overloaded()
            await asyncio.sleep(retry_after or pause * (0.5 + random.random()))
            pause = min(30.0, 2 * pause)

    async def _send(self, payload: bytes) -> tuple[int, bytes, float]:
        """Return (status, body, seconds the server asks to wait)."""
        if self._session is None:
            headers = {"Content-Type": "application/json"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self.spec.timeout),
                headers=headers,
            )
        try:
            async with self._session.post(self._url, data=payload) as response:
                text = await response.read()
                return response.status, text, _seconds(response.headers.get("Retry-After"))
        except TimeoutError as error:
            raise EngineError(f"{self.spec.url} didn't answer in {self.spec.timeout:g} s", transient=True) from error
        except aiohttp.ClientError as error:
            raise EngineError(redact(f"{self.spec.url}: {error}"), transient=True) from error

    def _read(self, answer: Mapping[str, Any]) -> list[Completion]:
        choices: list[dict[str, Any]] = answer.get("choices") or []
        usage: dict[str, Any] = answer.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return [self._completion(choice, usage, cached, len(choices)) for choice in choices]

    def _completion(self, choice: Mapping[str, Any], usage: Mapping[str, Any], cached: int, choices: int) -> Completion:
        message: Mapping[str, Any] = choice.get("message") or choice
        text = message.get("content" if self.spec.api == "chat" else "text") or ""
        reason = choice.get("finish_reason") or "stop"
        if reason == "content_filter":
            raise EngineError(f"{self.spec.url} filtered the completion (finish_reason = content_filter)")
        if reason == "stop" and isinstance(choice.get("stop_reason"), str):
            reason = "stop_string"
        logprobs = _logprobs(choice.get("logprobs")) if self.spec.logprobs else None
        tokens = len(logprobs) if logprobs is not None else int(usage.get("completion_tokens") or 0) // choices
        total = sum(logprobs) if logprobs else None
        return Completion(
            text=text,
            finish_reason=reason if reason in ("stop", "length", "stop_string") else "stop",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=tokens,
            cached_prompt_tokens=int(cached),
            reasoning=message.get("reasoning_content") or message.get("reasoning"),
            sum_logprob=total,
            mean_logprob=total / len(logprobs) if logprobs and total is not None else None,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class AdaptiveLimit:
    """How many requests may be in flight: additive increase, multiplicative decrease (Chiu & Jain 1989)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lowered = 0.0

    async def __aenter__(self) -> None:
        while self.in_flight >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given; somebody else takes it
                raise
        self.in_flight += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def succeeded(self) -> None:
        """Grow by one for every ``limit`` successes."""
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def overloaded(self) -> None:
        """Halve, once for all the refusals of one moment."""
        now = time.monotonic()
        if now - self._lowered > 0.5:
            self.limit, self._lowered = max(1.0, self.limit / 2), now


def _logprobs(found: Mapping[str, Any] | None) -> list[float] | None:
    """Return the log-probs of the sampled tokens, in nats; chat and completions name them differently."""
    if not found:
        return None
    if found.get("content") is not None:
        return [float(token["logprob"]) for token in found["content"]]
    return [float(value) for value in found.get("token_logprobs") or [] if value is not None]


def _seconds(retry_after: str | None) -> float:
    try:
        return min(30.0, max(0.0, float(retry_after or 0)))
    except ValueError:  # a date: rare, and the usual pause serves
        return 0.0


def _words(text: bytes) -> str:
    """Return the server's own words, shortened, without keys."""
    return redact(text.decode(errors="replace").strip()[:500])
