"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp's, a gateway, a vendor. One request a sample.

When requests are sent adapts to the server (``cluster.engines.openai.gate``), and what can't be served now is asked
again for ``patience`` seconds (``cluster.engines.openai.asking``). Keys are read where they are used; they are no field
of anything. An answer that says that the settings are wrong (no such model, a key that isn't accepted), or first
answers that are all the same refusal, end the run: recorded as failures of samples, they would stand in the way of the
same run with a better key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from yarl import URL

from cluster.engines.content import EVERYTHING, TEXT, Takes, for_servers, shown
from cluster.engines.guides import check_guide
from cluster.engines.openai.address import check_url, endpoint
from cluster.engines.openai.asking import Asked, Server
from cluster.engines.openai.prompts import chat, members
from cluster.engines.openai.reading import read_choices
from cluster.engines.openai.scores import score
from cluster.engines.openai.usage import Worst
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

BYTES_PER_TOKEN = 4
"""No tokenizer is known here: prompts are measured by this rule of thumb, and the server has the last word."""
TEMPLATE_TOKENS = 64
"""What a server's chat template may add to a prompt of a few turns."""
ANSWER_BYTES, TOKEN_BYTES, LOGPROB_BYTES, PIECE_BYTES = 1 << 20, 64, 256, 2048
"""Bytes that an answer may have: whatever it says, for each token, for each token's log-probs, for each piece of a
stream."""


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
        self.patience = spec.patience
        self._server = Server(spec)
        self._url = endpoint(spec, "chat/completions" if spec.api == "chat" else "completions")
        self._most = cache(spec.most_completion)
        self._encoded: tuple[SamplingParams, int, bool, str] | None = None
        """What requests have in common, without the last brace: of some parameters, of so many completions, with or
        without a beginning that is continued."""
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
        check_url(spec)
        return spec.model, spec.revision or "unversioned"

    @property
    def trouble(self) -> str:
        return self._server.trouble

    @property
    def refusal(self) -> str:
        return self._server.refusal

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
            asked = [self._complete(request, n, child_seed(request.seed, child)) for child, n in parts]
            completions += [one for answer in await asyncio.gather(*asked) for one in answer]
        completions = [_without(completion, request.prefix) for completion in completions[: request.n]]
        try:
            for completion in completions:
                check_guide(request.params, completion)
            return [ended_by(completion, request.params) for completion in completions]
        except EngineError as error:  # it was served all the same
            prompt = sum(one.prompt_tokens for one in completions)
            raise EngineError(error.message, used=(prompt, sum(one.completion_tokens for one in completions))) from None

    async def _first(self, request: Request) -> list[Completion]:
        """Ask for as many as the server is known to give; one that refuses so many is asked for one."""
        n = min(request.n, self._at_once)
        try:
            return await self._complete(request, n, request.seed)
        except EngineError as error:
            if n == 1 or error.transient or any(error.used):
                raise
        return await self._complete(request, 1, request.seed)

    async def _complete(self, request: Request, n: int, seed: int) -> list[Completion]:
        """Ask once; return what comes, which may be less than ``n`` completions."""
        spec, params, payload = self.spec, request.params, self._body(request, n, seed)
        prompt, most = request.prompt + request.prefix, self._most(request.params.max_tokens)
        worst = Worst(await self.most_tokens(prompt), most)
        each = TOKEN_BYTES + (LOGPROB_BYTES * (1 + _top_logprobs(spec)) if spec.logprobs else 0)
        each += PIECE_BYTES if spec.stream else 0
        asked = Asked(
            self._url,
            payload,
            hash(prompt),
            await self.count_tokens(prompt) + n * most,
            (worst.prompt_tokens, n * most),
            ANSWER_BYTES + n * most * each,
        )
        try:
            completions = await self._server.ask(
                asked,
                lambda answer: read_choices(answer, params, spec.api == "chat", spec.logprobs, worst),
                lambda found: found[0].prompt_tokens + sum(one.completion_tokens for one in found),
            )
        except EngineError as error:
            if b'"priority":' not in payload or error.transient or "priority" not in error.message.lower():
                raise
            self.priority = 0  # the server has none
            return await self._complete(request, n, seed)
        if self.info.stops == "untold" and any(one.finish_reason == "stop_string" for one in completions):
            self.info = replace(self.info, stops="told")
        return completions

    async def ask(self, url: URL, payload: bytes) -> Any:
        """Ask another endpoint; return its answer.

        Raises:
            EngineError: as for completions.
            BadInput: the server refuses this engine's settings, whatever is asked.
        """
        tokens = len(payload) // BYTES_PER_TOKEN
        bytes_of_it = ANSWER_BYTES + len(payload) * LOGPROB_BYTES  # some number for each token of it
        asked = Asked(url, payload, hash(payload), tokens, (len(payload), 0), bytes_of_it)
        return await self._server.ask(asked, lambda answer: answer, lambda _: tokens)

    async def score(self, request: ScoreRequest) -> Scored:
        """Score through the server's ``classify``, ``pooling`` or (with echo) ``completions``."""
        return await score(self, request)

    def _body(self, request: Request, n: int, seed: int) -> bytes:
        """Return the body of one request. What a chat asks is JSON already and is put in as it is."""
        spec, asked = self.spec, request.prompt
        continued = bool(request.prefix) and spec.api == "chat"
        head = self._head(request.params, n, continued)
        if spec.extra_body.get("seed", 0) is not None:
            head = f'{head}, "seed": {seed}'
        if self.priority:  # vLLM's and SGLang's
            head = f'{head}, "priority": {self.priority}'
        if spec.api == "completions":
            return f'{head}, "prompt": {_written(request.prompt + request.prefix)}}}'.encode()
        if continued:
            asked = _written(chat(asked, request.prefix))
        return f"{head}, {members(asked)}}}".encode()

    def _head(self, params: SamplingParams, n: int, continued: bool) -> str:
        """Return what requests have in common, as JSON that isn't closed yet."""
        known = self._encoded
        if known is not None and known[0] is params and known[1:3] == (n, continued):
            return known[3]
        spec = self.spec
        body: dict[str, Any] = {
            "model": spec.model,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
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
        if spec.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if continued:  # vLLM's and SGLang's way
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if spec.extra_body:
            body = {name: value for name, value in (body | spec.extra_body).items() if value is not None}
        head = _written(body)[:-1]
        self._encoded = params, n, continued, head
        return head

    async def close(self) -> None:
        await self._server.close()


def _written(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


def _top_logprobs(spec: OpenAISpec) -> int:
    """Return how many log-probs each token brings beside its own."""
    found = spec.extra_body.get("top_logprobs" if spec.api == "chat" else "logprobs")
    return found if isinstance(found, int) else 0


def _without(completion: Completion, prefix: str) -> Completion:
    """Take off a beginning that the server gave back (llama.cpp's does)."""
    if not prefix or not completion.text.startswith(prefix):
        return completion
    return replace(completion, text=completion.text.removeprefix(prefix))
