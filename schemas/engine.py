"""Engine and sampling specifications: what is sampled from, and how. Light to import; workers build the engines."""

from __future__ import annotations

import re
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from schemas.extras import remedy
from schemas.identity import Added, Execution, ExecutionKeys
from schemas.settings import Settings


def _read_template(value: str | None) -> str | None:
    """A template is known by its text, wherever the file lies."""
    if value is None or "{" in value:
        return value
    if not Path(value).is_file():
        raise ValueError(f"'{value}' is neither a Jinja template nor a file")
    return Path(value).read_text()


ChatTemplate = Annotated[str | None, AfterValidator(_read_template)]
"""A Jinja template, or the path of one."""


class SamplingParams(Settings):
    """The parameters that change the distribution. Truncation is off; an engine's own defaults never apply."""

    temperature: float = Field(default=1.0, ge=0.0)
    """What the logits are divided by; 0 always takes the most probable token."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Only the most probable tokens that together have this probability may be drawn; 1 turns it off."""
    top_k: int = Field(default=0, ge=0)
    """Only this many most probable tokens may be drawn; 0 turns it off."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    """Only tokens with this share of the most probable one's probability may be drawn; 0 turns it off."""
    max_tokens: int = Field(default=512, gt=0)
    """The most tokens of a completion, its reasoning included."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; they aren't part of it."""
    json_schema: Annotated[dict[str, Any] | None, Added] = None
    """Guided decoding: the completion is a JSON document of this schema."""
    regex: Annotated[str | None, Added] = None
    """Guided decoding: the whole completion matches this regular expression."""
    keep_stop: Annotated[bool, Added] = False
    """A completion that a stop string ended has it as its end. Of engines that tell which texts those are."""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"isn't a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one_guide(self) -> SamplingParams:
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("give json_schema or regex, not both")
        return self

    @cached_property
    def params(self) -> SamplingParams:
        """Of a configuration that has more fields, the part that an engine needs."""
        return SamplingParams(**{name: getattr(self, name) for name in SamplingParams.model_fields})


class EngineSpec(Settings):
    """Base of the engine specifications. What says where it runs never says what it gives.

    A replica is one engine: ``ranks`` processes with ``gpus`` GPUs each, kept together on one node where they fit.

    Class attributes:
        guides: the kinds of guided decoding it can do (fields of ``SamplingParams``).
        shared: whether it is a server that others may use beside this run.
    """

    guides: ClassVar[frozenset[str]] = frozenset()
    shared: ClassVar[bool] = False

    replicas: Annotated[int, Execution] = Field(default=1, ge=1)
    """How many engines of this kind there are, side by side."""
    cpus: Annotated[float, Execution] = Field(default=1.0, ge=0.0)
    """How many CPUs each rank takes."""
    gpus: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    """GPUs of each rank; a fraction shares one with others, side by side."""
    gpu_memory: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    """The memory, in GB, that each GPU must have at least."""
    labels: Annotated[dict[str, str], Execution] = {}
    """Labels of the nodes it may run on, as Ray's label selectors are written: ``{"ray.io/accelerator-type": "H100"}``,
    ``{"zone": "in(a,b)"}``."""
    takes_turns: Annotated[str | None, Execution] = None
    """Engines of one name share the same GPUs in turn: while one works, the others sleep, their weights in main
    memory."""

    @property
    def ranks(self) -> int:
        """Processes of one replica that hold GPUs of their own."""
        return 1

    @property
    def all_gpus(self) -> float:
        """GPUs that all its replicas hold."""
        return self.replicas * self.ranks * self.gpus

    @property
    def needs_pool(self) -> bool:
        """Whether it has workers of its own where it plays a role for another engine's strategy: it takes GPUs."""
        return self.gpus > 0

    def most_completion(self, max_tokens: int) -> int:
        """Return the most tokens that a completion may have, where so many are asked for."""
        return max_tokens

    @property
    def cannot_cut(self) -> str:
        """Why it can't cut traces by their confidence; empty: it can."""
        return "it doesn't tell confidences while it writes"

    @property
    def cannot_grow_trees(self) -> str:
        """Why it can't search by tokens (strategy ``saffron``); empty: it can."""
        return SEARCHES_BY_TOKENS


SEARCHES_BY_TOKENS = (
    "it doesn't hand out the logits of all next tokens; engine.kind=llama_cpp does, with the package cyllama"
)
"""Why most engines can't, and which can."""


class LlamaCppSpec(EngineSpec):
    """llama.cpp in the worker's own process: any GGUF file, by default the embedded SmolLM2-135M-Instruct."""

    guides = frozenset({"json_schema"})

    kind: Literal["llama_cpp"] = "llama_cpp"
    """Which engine this is."""
    model: str = "smollm2-135m-instruct"
    """A path of a GGUF file, or the name of the embedded model. The weights' hash, not the path, is the identity."""
    chat_template: Annotated[ChatTemplate, Added] = None
    """A Jinja template, or the path of one; otherwise the model's own."""
    slots: Annotated[int, Execution] = Field(default=16, ge=1)
    """How many requests are decoded at once."""
    context: Annotated[int, Execution] = Field(default=1024, ge=16)
    """Tokens a request may use, prompt and completion together."""
    threads: Annotated[int, Execution] = Field(default=0, ge=0)
    """How many threads compute; 0 takes one per core."""

    @property
    def cannot_grow_trees(self) -> str:
        there = find_spec("cyllama") is not None
        return "" if there else f"it takes the package cyllama for that: {remedy('tokens')}"


class ScriptedSpec(EngineSpec):
    """Answers from a table, for tests: with latency, failures and log-probs on demand. Runs no model."""

    kind: Literal["scripted"] = "scripted"
    """Which engine this is."""
    model: str = "scripted"
    """The name by which it is known."""
    answers: tuple[str, ...] = ("42",)
    """A sample's text is drawn from these by its seed (formatted with {prompt} and {seed})."""
    weights: tuple[float, ...] = ()
    """Probability of each answer; equal when empty."""
    by_prompt: dict[str, tuple[str, ...]] = {}
    """Answers for prompts that contain the key; the first key that matches wins."""
    by_prefix: Annotated[dict[str, tuple[str, ...]], Added] = {}
    """Answers where what was said so far (prompt and beginning of the completion) ends with the key; the longest key
    that matches wins, and goes before ``by_prompt``."""
    scores: Annotated[dict[str, float], Added] = {}
    """Scores of texts that end with the key; the longest wins. Other texts are scored by a hash."""
    refuse: Annotated[tuple[str, ...], Added] = ()
    """Texts that can't be scored."""
    next_tokens: Annotated[dict[str, dict[str, tuple[float, float | None]]], Added] = {}
    """For searches by tokens: what was said so far ends with (the longest that matches) -> next token -> (probability,
    predicted reward; null where it wasn't seen when rewards were learnt). The token ``""`` ends a text. Where nothing
    matches, letters with probabilities and rewards by a hash."""
    told_stops: Annotated[bool, Added] = True
    """Whether it says that a stop string ended a completion; else that reads as the end of the text (OpenAI's API)."""
    usage: Annotated[Literal["right", "missing", "half", "double"], Execution] = "right"
    """What it says of the tokens it used, whatever ``token_log`` says."""
    latency: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    """Seconds a request takes; uniformly spread by ``jitter``."""
    jitter: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    """The share by which latencies vary, by chance."""
    slots: Annotated[int, Execution] = Field(default=256, ge=1)
    """Requests in progress at a time."""
    size: Annotated[int, Execution] = Field(default=1, ge=1)
    """How many ranks it pretends to have."""
    context: Annotated[int, Execution] = Field(default=4096, ge=1)
    """Tokens of prompt and completion together."""
    logprobs: bool = True
    """Whether it gives log-probs."""
    fail_transient: Annotated[float, Execution] = Field(default=0.0, ge=0.0, le=1.0)
    """Share of requests whose first attempt fails with a fault that a retry heals."""
    fail_permanent: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of samples that are refused for good (drawn by seed, so it is part of the identity)."""
    call_log: Annotated[str | None, Execution] = None
    """A file that gets one line a request (its request_id), and one each time the engine sleeps or wakes: what it was
    asked for, from its own side."""
    token_log: Annotated[str | None, Execution] = None
    """A file that gets a line for each answer, before it is given: prompt and completion tokens, as it counts them."""
    deadly: Annotated[str | None, Execution] = None
    """A prompt that contains this kills the engine's process."""

    @property
    def ranks(self) -> int:
        return self.size

    @property
    def cannot_cut(self) -> str:
        return "" if self.logprobs else "set engine.logprobs=true"

    @property
    def cannot_grow_trees(self) -> str:
        return ""


class ReplaySpec(EngineSpec):
    """Recorded samples played back: problem_key or problem_id, sample_index and completion at least."""

    kind: Literal["replay"] = "replay"
    """Which engine this is."""
    model: str = "replay"
    """The name by which it is known."""
    samples: str
    """Parquet file or folder. Its content's hash is the identity."""
    slots: Annotated[int, Execution] = Field(default=1024, ge=1)
    """Requests in progress at a time."""
    context: Annotated[int, Execution] = Field(default=1_000_000, ge=1)
    """Tokens of prompt and completion together."""


BOUNDS = ("max_tokens", "max_completion_tokens")
"""Fields of an OpenAI request that bound a completion; the second one has its reasoning in it."""
OURS = ("model", "messages", "prompt", "n", "seed", "stream")
"""Fields of an OpenAI request that say which sample is drawn and how it comes back."""


class OpenAISpec(EngineSpec):
    """Any server that speaks OpenAI's API. The key is only ever read from the environment."""

    guides = frozenset({"json_schema", "regex"})
    shared = True

    kind: Literal["openai"] = "openai"
    """Which engine this is."""
    url: Annotated[str, Execution] = "http://127.0.0.1:8000/v1"
    """Base URL, with ``/v1``. Where a model is served is not what it is: a moved server keeps its samples."""
    model: str
    """The model's name as the server knows it."""
    revision: str = ""
    """Commit or date of the weights, where it is known; an alias alone is recorded as unversioned."""
    api: Literal["chat", "completions"] = "chat"
    """Which interface is asked: chat completions, or completions of a text that was rendered here."""
    key_env: Annotated[str, Execution] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; none is sent where it isn't set."""
    key_file: Annotated[str | None, Execution] = None
    """A file that holds the key, in the place of the variable; it is read again when the server answers 401."""
    key_command: Annotated[str | None, Execution] = None
    """A command that writes the key (``gcloud auth print-access-token``), run again when the server answers 401."""
    headers: Annotated[dict[str, str], Execution] = {}
    """More headers: name -> the environment variable that holds its value. Azure's ``{"api-key": "AZURE_KEY"}``."""
    stream: Annotated[bool, Execution] = False
    """Have answers sent piece by piece, for gateways that cut connections which are silent for a minute."""
    concurrency: Annotated[int, Execution] = Field(default=64, ge=1)
    """Requests in flight at most; fewer while the server says that it has too much."""
    requests_per_minute: Annotated[float | None, Execution] = Field(default=None, gt=0)
    """Requests each minute at most, of all replicas together; otherwise only the server's refusals say how many."""
    tokens_per_minute: Annotated[float | None, Execution] = Field(default=None, gt=0)
    """How many tokens the server may be asked for in a minute, prompts and completions together."""
    context: Annotated[int, Execution] = Field(default=131_072, ge=16)
    """Tokens a request may use, prompt and completion together."""
    logprobs: Annotated[bool, Execution] = False
    """Ask for the log-probs of the sampled tokens."""
    timeout: Annotated[float, Execution] = Field(default=600.0, gt=0)
    """Seconds one request may take."""
    patience: Annotated[float, Execution] = Field(default=600.0, ge=0)
    """Seconds for which a server is asked again that says or shows that it can't just now: 429, 500, 502 to 504, 520 to
    529, no connection, a connection that breaks, ``timeout``."""
    extra_body: dict[str, Any] = {}
    """More fields of the request body, as the server takes them; null leaves one of ours out."""

    def most_completion(self, max_tokens: int) -> int:
        """By the request's own fields: ``extra_body`` may rename the bound, or leave it out."""
        body = {"max_tokens": max_tokens, **self.extra_body}
        found = [value for name in BOUNDS if isinstance(value := body.get(name), int | float) and value > 0]
        return int(max(found)) if found else self.context

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("isn't the address of a server: it takes http://HOST:PORT/v1, or https://...")
        return value

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_request_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = [name for name in OURS if value.get(name) is not None]
        if taken:
            raise ValueError(f"{taken} is set by the engine itself; null leaves it out")
        return value


class TransformersSpec(EngineSpec):
    """Hugging Face transformers in the worker, for scores only: reward models that vLLM doesn't know, or no vLLM."""

    kind: Literal["transformers"] = "transformers"
    """Which engine this is."""
    model: str
    """A folder of weights, or a name on the model hub."""
    revision: str = ""
    """Branch, tag or commit on the hub; the commit it stands for is the identity. A folder's is its content."""
    task: Literal["classify", "token_classify", "likelihood"] = "classify"
    """``classify``: one score a text; ``token_classify``: one a token (process rewards); ``likelihood``: log-probs."""
    dtype: str = "auto"
    """The weights' type (``bfloat16``, ...); ``auto``: the model's own."""
    chat_template: ChatTemplate = None
    """A Jinja template, or the path of one; otherwise the tokenizer's own."""
    device: Annotated[str, Execution] = ""
    """As torch names it; empty: a GPU where there is one."""
    batch: Annotated[int, Execution] = Field(default=16, ge=1)
    """Texts computed at once."""
    context: Annotated[int, Execution] = Field(default=4096, ge=16)
    """Tokens a text may have."""


VLLM_EXECUTION = ExecutionKeys(
    {
        "all2all_backend", "async_scheduling", "block_size", "compilation_config", "cpu_offload_gb",
        "data_parallel_backend", "data_parallel_size_local", "disable_custom_all_reduce", "disable_log_stats",
        "distributed_executor_backend", "download_dir", "enable_chunked_prefill", "enable_eplb", "enable_sleep_mode",
        "enable_prefix_caching", "enforce_eager", "eplb_config", "kv_cache_memory_bytes", "load_format", "max_logprobs",
        "max_num_batched_tokens", "max_parallel_loading_workers", "optimization_level",
        "safetensors_load_strategy",
    }
)  # fmt: skip
"""Of vLLM's own arguments, those that say how it runs. All others are taken to change what it gives."""


class VllmSpec(EngineSpec):
    """vLLM's asynchronous engine in a worker of its own; the production engine.

    A replica has ``tensor_parallel * pipeline_parallel`` ranks; with ``data_parallel`` above 1 it has as many such
    groups, which vLLM places itself.
    """

    guides = frozenset({"json_schema", "regex"})

    kind: Literal["vllm"] = "vllm"
    """Which engine this is."""
    model: str
    """A folder of weights, or a name on the model hub."""
    revision: str = ""
    """Branch, tag or commit on the hub; the commit it stands for is the identity. A folder's is its content."""
    task: Literal["generate", "classify", "token_classify"] = "generate"
    """``classify``: a reward model with one score a text; ``token_classify``: one a token (process rewards)."""
    dtype: str = "auto"
    """The weights' type (``bfloat16``, ...); ``auto``: the model's own."""
    quantization: str | None = None
    """How the checkpoint is quantised, where its own configuration doesn't tell; otherwise how vLLM shall do it."""
    adapter: str | None = None
    """Folder of a LoRA adapter that all requests use."""
    chat_template: ChatTemplate = None
    """A Jinja template, or the path of one; otherwise the tokenizer's own."""
    reasoning_parser: str = ""
    """vLLM's name of the parser that splits the reasoning off (``deepseek_r1``, ``qwen3``, ...)."""
    gpus: Annotated[float, Execution] = Field(default=1.0, ge=0.0)
    """GPUs of each rank (0 where there are none); a fraction shares one, with ``gpu_memory_utilization`` to match."""
    tensor_parallel: Annotated[int, Execution] = Field(default=1, ge=1)
    """GPUs among which each layer is split."""
    pipeline_parallel: Annotated[int, Execution] = Field(default=1, ge=1)
    """Groups of GPUs among which the layers are shared."""
    data_parallel: Annotated[int, Execution] = Field(default=1, ge=1)
    """Copies of the model that vLLM runs as one engine."""
    expert_parallel: Annotated[bool, Execution] = False
    """Spread the experts of a mixture over all ranks (of all data-parallel groups)."""
    slots: Annotated[int, Execution] = Field(default=256, ge=1)
    """Requests decoded at once (``max_num_seqs``)."""
    context: Annotated[int, Execution] = Field(default=4096, ge=16)
    """Tokens a request may use (``max_model_len``)."""
    gpu_memory_utilization: Annotated[float, Execution] = Field(default=0.9, gt=0.0, le=1.0)
    """Share of each GPU's memory that it may take."""
    logprobs: Annotated[bool, Execution] = True
    """Sum and mean log-prob of each sample."""
    confidence: Annotated[bool, Execution] = False
    """Confidences too (DeepConf): vLLM then returns 20 log-probs a token to the worker."""
    expert_counts: Annotated[str | None, Execution] = None
    """A folder that gets a file of tokens per expert (contract expert_counts) when the engine is closed, to plan
    placements with (``gristmill moe place --counts FOLDER``). Of a mixture of experts; it runs eagerly then."""
    job_class: Annotated[str, Execution] = ""
    """The class of jobs that ``expert_counts`` are kept under."""
    engine_kwargs: Annotated[dict[str, Any], VLLM_EXECUTION] = {}
    """More arguments of vLLM's ``AsyncEngineArgs``, as they are."""

    @property
    def ranks(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def cannot_cut(self) -> str:
        return "" if self.confidence else "set engine.confidence=true"

    @field_validator("engine_kwargs")
    @classmethod
    def _leaves_fields_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        for taken, field in VLLM_FIELDS.items():
            if taken in value:
                raise ValueError(f"'{taken}' is set by engine.{field}")
        return value


VLLM_FIELDS = {
    "model": "model", "revision": "revision", "dtype": "dtype", "quantization": "quantization", "runner": "task",
    "max_model_len": "context", "max_num_seqs": "slots", "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel", "data_parallel_size": "data_parallel",
    "enable_expert_parallel": "expert_parallel", "gpu_memory_utilization": "gpu_memory_utilization",
    "enable_lora": "adapter", "reasoning_parser": "reasoning_parser", "worker_extension_cls": "expert_counts",
}  # fmt: skip
"""vLLM's argument -> the field of ``VllmSpec`` that sets it."""

AnyEngineSpec = Annotated[
    LlamaCppSpec | ScriptedSpec | ReplaySpec | OpenAISpec | TransformersSpec | VllmSpec, Field(discriminator="kind")
]
