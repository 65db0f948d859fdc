"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp's, a gateway, a vendor. One request a sample, no streaming.

How many requests may be in flight adapts to the server: it is halved when the server says that it has too much (429,
503), and grows back by one for every round that succeeds. The key is read from the environment where it is used; it is
no field of anything. An answer that says that the settings are wrong (no such model, a key that isn't accepted) ends
the run: recorded as failures of samples, it would stand in the way of the same run with a better key.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from cluster.engines.content import EVERYTHING, TEXT, Takes, for_servers, shown
from cluster.engines.guides import check_guide
from cluster.engines.openai.adaptive import AdaptiveLimit
from cluster.engines.openai.deadlines import Deadlines
from cluster.engines.openai.prompts import chat, members
from cluster.engines.openai.scores import score
from operators.engine import (
    Completion,
    Engine,
    EngineError,
    EngineInfo,
    Request,
    Scored,
    ScoreRequest,
    child_seed,
    ended_by,
)
from schemas.conversation import Turn
from schemas.engine import EngineSpec, OpenAISpec, SamplingParams
from schemas.errors import BadInput
from schemas.messages import calls_of
from schemas.redaction import protect, redact

TRANSIENT = frozenset({408, 409, 425, 500, 502, 504})
OVERLOADED = frozenset({429, 503})
MISCONFIGURED = frozenset({401, 402, 404, 405})
"""No request can succeed: wrong key, nothing paid, wrong URL or model. 403 too, where nothing has succeeded yet."""
LONGEST_PAUSE = 30.0
"""Seconds."""
STOPPED_BY = ("stop_reason", "matched_stop", "stop_sequence")
"""Fields in which servers tell the stop string that ended a choice (vLLM, SGLang, gateways to Anthropic's models)."""
BYTES_PER_TOKEN = 4
"""No tokenizer is known here: prompts are measured by this rule of thumb, and the server has the last word."""
TEMPLATE_TOKENS = 64
"""What a server's chat template may add to a prompt of a few turns."""


class OpenAIEngine(Engine):
    """See ``schemas.engine.OpenAISpec``. A rendered prompt is text (completions) or the conversation as JSON (chat): a
    list of messages, or an object with ``messages`` and ``tools``.
    """

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
            seeds="asked",
        )
        self._headers = {"Content-Type": "application/json", **_authorization(spec.key_env)}
        self._limit = AdaptiveLimit(spec.concurrency)
        self._open: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, Deadlines]] = {}
        """Of each event loop: a connection can't be used from another."""
        place = "chat/completions" if spec.api == "chat" else "completions"
        self._url = URL(f"{spec.url.rstrip('/')}/{place}")
        self._served = False
        self._at_once = 2**31
        """The largest n that the server is known to keep to."""

    @staticmethod
    def takes(spec: EngineSpec) -> Takes:
        """Return what a server is sent: as a chat everything, as a text what a text can hold."""
        assert isinstance(spec, OpenAISpec)
        return EVERYTHING if spec.api == "chat" else TEXT

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, revision); what stands behind a server's alias can't be known, so it must be told.

        Raises:
            BadInput: the URL is none, or carries credentials.
        """
        assert isinstance(spec, OpenAISpec)
        if not spec.url.startswith(("http://", "https://")) or not URL(spec.url).host:
            raise BadInput(f"engine.url '{redact(spec.url)}' is no URL such as http://host:8000/v1")
        if "@" in spec.url.partition("://")[2].partition("/")[0]:
            raise BadInput(f"engine.url carries credentials; put the key in ${spec.key_env} instead")
        return spec.model, spec.revision or "unversioned"

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        if self.spec.api == "chat":
            if not chat:
                raise BadInput("the chat endpoint applies the model's template: set engine.api=completions")
            turns = for_servers(messages)
            return json.dumps({"messages": turns, "tools": list(tools)} if tools else turns, ensure_ascii=False)
        if chat:
            raise BadInput(
                "the completions endpoint applies no chat template: set sample.chat=false, or engine.api=chat"
            )
        return "".join(turn["content"] for turn in shown(messages, tools, TEXT))

    async def count_tokens(self, prompt: str) -> int:
        return -(-len(prompt.encode()) // BYTES_PER_TOKEN)

    async def most_tokens(self, prompt: str) -> int:
        """A token is at least one byte; the server's template adds its own to every turn."""
        return len(prompt.encode()) + TEMPLATE_TOKENS

    async def generate(self, request: Request) -> list[Completion]:
        """Return ``request.n`` completions; a server that gives fewer at a time is asked for the others at once."""
        completions = await self._first(request)
        while len(completions) < request.n:
            each = self._at_once = len(completions)
            parts = [(child, min(each, request.n - child)) for child in range(each, request.n, each)]
            bodies = [self._body(request, n, child_seed(request.seed, child)) for child, n in parts]
            answers = await asyncio.gather(*[self.ask(self._url, body) for body in bodies])
            completions += [completion for text in answers for completion in self._read(text, request.params)]
        completions = [_without(completion, request.prefix) for completion in completions[: request.n]]
        for completion in completions:
            check_guide(request.params, completion)
        return [ended_by(completion, request.params) for completion in completions]

    async def _first(self, request: Request) -> list[Completion]:
        """Ask for as many as the server is known to give; one that refuses so many is asked for one."""
        n = min(request.n, self._at_once)
        try:
            return self._read(await self.ask(self._url, self._body(request, n, request.seed)), request.params)
        except EngineError as error:
            if n == 1 or error.transient:
                raise
        return self._read(await self.ask(self._url, self._body(request, 1, request.seed)), request.params)

    async def score(self, request: ScoreRequest) -> Scored:
        """Score through the server's ``classify``, ``pooling`` or (with echo) ``completions``."""
        return await score(self, request)

    def _body(self, request: Request, n: int, seed: int) -> bytes:
        """Return the body of one request. What a chat asks is JSON already and is put in as it is."""
        spec, params = self.spec, request.params
        body: dict[str, Any] = {
            "model": spec.model,
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
        if params.json_schema is not None:
            schema = {"name": "completion", "schema": params.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if params.regex is not None:
            body["structured_outputs"] = {"regex": params.regex}  # vLLM's
        if spec.logprobs:
            body["logprobs"] = True if spec.api == "chat" else 1
        asked = request.prompt
        if spec.api == "completions":
            body["prompt"] = request.prompt + request.prefix
        elif request.prefix:  # vLLM's and SGLang's way to have a turn continued
            asked = json.dumps(chat(asked, request.prefix))
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if spec.extra_body:
            body = {name: value for name, value in (body | spec.extra_body).items() if value is not None}
        text = json.dumps(body, ensure_ascii=False)
        return (text if spec.api == "completions" else f"{text[:-1]}, {members(asked)}}}").encode()

    async def ask(self, url: URL, payload: bytes) -> bytes:
        """Send one request, waiting while the server says that it has too much; return its answer.

        Raises:
            EngineError: transient for faults of the way or the server, permanent where the request was refused.
            BadInput: the server refuses this engine's settings, whatever is asked.
        """
        until, pause = time.monotonic() + self.spec.patience, 0.25
        while True:
            async with self._limit:
                status, text, retry_after = await self._send(url, payload)
            if status == 200:
                self._limit.succeeded()
                self._served = True
                self.trouble = ""
                return text
            if status not in OVERLOADED or time.monotonic() > until:
                raise self._refusal(status, text)
            self._limit.overloaded()
            self.trouble = f"{self.spec.url} has too much to do (it answers {status})"
            await asyncio.sleep(retry_after or pause * (0.5 + random.random()))
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _refusal(self, status: int, text: bytes) -> Exception:
        said = f"{self.spec.url} answered {status}: {_words(text)}"
        if status in MISCONFIGURED or (status == 403 and not self._served):
            return BadInput(f"{said}. Check engine.url, engine.model ('{self.spec.model}') and ${self.spec.key_env}")
        return EngineError(said, transient=status in TRANSIENT | OVERLOADED or status > 504)

    async def _send(self, url: URL, payload: bytes) -> tuple[int, bytes, float]:
        """Return (status, body, seconds the server asks to wait)."""
        session, deadlines = self._open.get(asyncio.get_running_loop()) or self._connect()
        try:
            with deadlines:
                async with session.post(url, data=payload) as response:
                    text = await response.read()
                    return response.status, text, _seconds(response.headers.get("Retry-After"))
        except TimeoutError as error:
            self.trouble = f"{self.spec.url} didn't answer in {self.spec.timeout:g} s"
            raise EngineError(self.trouble, transient=True) from error
        except aiohttp.ClientError as error:
            self.trouble = redact(f"{self.spec.url}: {error}")
            raise EngineError(self.trouble, transient=True) from error

    def _connect(self) -> tuple[aiohttp.ClientSession, Deadlines]:
        """Open the running loop's connection pool."""
        session = aiohttp.ClientSession(
            # servers built on uvicorn hang up after 5 s of silence; so do we, a little earlier
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            timeout=aiohttp.ClientTimeout(total=None),  # see Deadlines
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        opened = self._open[asyncio.get_running_loop()] = session, Deadlines(self.spec.timeout)
        return opened

    def _read(self, text: bytes, params: SamplingParams) -> list[Completion]:
        try:
            answer = json.loads(text)
            usage: dict[str, Any] = answer.get("usage") or {}
            choices: list[dict[str, Any]] = answer["choices"]
            completions = [self._completion(choice, usage, len(choices), params) for choice in choices]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise EngineError(f"{self.spec.url} gave no completion: {_words(text)}", transient=True) from error
        if not completions:
            raise EngineError(f"{self.spec.url} gave no choices: {_words(text)}", transient=True)
        if self.info.stops == "untold" and any(found.finish_reason == "stop_string" for found in completions):
            self.info = replace(self.info, stops="told")
        return completions

    def _completion(
        self, choice: Mapping[str, Any], usage: Mapping[str, Any], choices: int, params: SamplingParams
    ) -> Completion:
        chat = self.spec.api == "chat"
        message: Mapping[str, Any] = choice["message"] if chat else choice
        text = message.get("content" if chat else "text") or ""
        if not isinstance(text, str):
            raise TypeError("the completion isn't text")
        reason = choice.get("finish_reason")
        if reason == "content_filter":
            raise EngineError(f"{self.spec.url} filtered the completion (finish_reason = content_filter)")
        # vLLM and SGLang tell the string; a number is a token, the model's own end, and other words are a gateway's
        stop = next((found for name in STOPPED_BY if (found := choice.get(name)) in params.stop), None)
        if stop is not None or "stop_sequence" in (choice.get("stop_reason"), choice.get("native_finish_reason")):
            reason = "stop_string"
        logprobs = _logprobs(choice.get("logprobs")) if self.spec.logprobs else None
        tokens = len(logprobs) if logprobs is not None else int(usage.get("completion_tokens") or 0) // choices
        total = sum(logprobs) if logprobs else None
        return Completion(
            text=text,
            finish_reason=_FINISH.get(reason, "cut"),
            stop=stop,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=tokens,
            cached_prompt_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            reasoning=message.get("reasoning_content") or message.get("reasoning"),
            tool_calls=calls_of(message.get("tool_calls")) if chat else None,
            sum_logprob=total,
            mean_logprob=total / len(logprobs) if logprobs and total is not None else None,
        )

    async def close(self) -> None:
        opened, self._open = self._open, {}
        for loop, (session, _) in opened.items():
            if loop is asyncio.get_running_loop() or loop.is_closed():
                await session.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))


_FINISH = {
    None: "stop",
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "tool_calls": "stop",
    "length": "length",
    "stop_string": "stop_string",
    "stop_sequence": "stop_string",
}
"""The server's word -> ours; anything else (vLLM's abort) is a text that was cut."""


def _without(completion: Completion, prefix: str) -> Completion:
    """Take off a beginning that the server gave back (llama.cpp's does)."""
    if not prefix or not completion.text.startswith(prefix):
        return completion
    return replace(completion, text=completion.text.removeprefix(prefix))


def _authorization(key_env: str) -> dict[str, str]:
    """Return the header that carries the key, if there is one.

    Raises:
        BadInput: what the variable holds can't be a key.
    """
    key = os.environ.get(key_env, "").strip()
    protect(key)
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"${key_env} doesn't hold a key: it has line breaks or characters that no HTTP header can carry")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _logprobs(found: Mapping[str, Any] | None) -> list[float] | None:
    """Return the log-probs of the sampled tokens, in nats; chat and completions name them differently."""
    if not found:
        return None
    if found.get("content") is not None:
        return [float(token["logprob"]) for token in found["content"]]
    return [float(value) for value in found.get("token_logprobs") or [] if value is not None]


def _seconds(retry_after: str | None) -> float:
    """Return how long the server asks to wait (seconds or a date), 30 s at most; 0 where it doesn't say."""
    if not retry_after:
        return 0.0
    try:
        try:
            wanted = float(retry_after)
        except ValueError:
            wanted = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(LONGEST_PAUSE, max(0.0, wanted))


def _words(text: bytes) -> str:
    """Return the server's own words, without keys, 500 characters at most."""
    try:
        said: Any = json.loads(text)
        said = said.get("error") or said
        said = said if isinstance(said, str) else said.get("message") or said["detail"]
    except (ValueError, TypeError, LookupError, AttributeError):
        said = text.decode(errors="replace")
    return redact(str(said).strip())[:500]
