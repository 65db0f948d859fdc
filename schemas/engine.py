"""Engine and sampling specifications: what is sampled from, and how. Light to import; workers build the engines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.identity import Execution


class SamplingParams(BaseModel):
    """The parameters that change the distribution. Truncation is off; an engine's own defaults never apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 is off."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    max_tokens: int = Field(default=512, gt=0)
    stop: tuple[str, ...] = ()


class EngineSpec(BaseModel):
    """Base of the engine specifications. ``replicas``, ``cpus`` and ``gpus`` say where it runs, never what it gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: Annotated[int, Execution] = Field(default=1, ge=1)
    cpus: Annotated[float, Execution] = Field(default=1.0, ge=0.0)
    gpus: Annotated[float, Execution] = Field(default=0.0, ge=0.0)


class LlamaCppSpec(EngineSpec):
    """llama.cpp in the worker's own process: any GGUF file, by default the embedded SmolLM2-135M-Instruct."""

    kind: Literal["llama_cpp"] = "llama_cpp"
    model: str = "smollm2-135m-instruct"
    """A path of a GGUF file, or the name of the embedded model. The weights' hash, not the path, is the identity."""
    slots: Annotated[int, Execution] = Field(default=16, ge=1)
    """Requests decoded at once."""
    context: Annotated[int, Execution] = Field(default=1024, ge=16)
    """Tokens a request may use, prompt and completion together."""
    threads: Annotated[int, Execution] = Field(default=0, ge=0)
    """0: one per core."""


class ScriptedSpec(EngineSpec):
    """Answers from a table, for tests: with latency, failures and log-probs on demand. Runs no model."""

    kind: Literal["scripted"] = "scripted"
    model: str = "scripted"
    answers: tuple[str, ...] = ("42",)
    """A sample's text is drawn from these by its seed (formatted with {prompt} and {seed})."""
    weights: tuple[float, ...] = ()
    """Probability of each answer; equal when empty."""
    by_prompt: dict[str, tuple[str, ...]] = {}
    """Answers for prompts that contain the key; the first key that matches wins."""
    latency: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    """Seconds a request takes; uniformly spread by ``jitter``."""
    jitter: Annotated[float, Execution] = Field(default=0.0, ge=0.0)
    slots: Annotated[int, Execution] = Field(default=256, ge=1)
    context: Annotated[int, Execution] = Field(default=4096, ge=1)
    logprobs: bool = True
    fail_transient: Annotated[float, Execution] = Field(default=0.0, ge=0.0, le=1.0)
    """Share of requests whose first attempt fails with a fault that a retry heals."""
    fail_permanent: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of samples that are refused for good (drawn by seed, so it is part of the identity)."""
    call_log: Annotated[str | None, Execution] = None
    """A file that gets one line a request (its request_id): what the engine itself was asked for."""


class ReplaySpec(EngineSpec):
    """Recorded samples played back: problem_key or problem_id, sample_index and completion at least."""

    kind: Literal["replay"] = "replay"
    model: str = "replay"
    samples: str
    """Parquet file or folder. Its content's hash is the identity."""
    slots: Annotated[int, Execution] = Field(default=1024, ge=1)
    context: Annotated[int, Execution] = Field(default=1_000_000, ge=1)


OURS = ("model", "messages", "prompt", "n", "seed", "stream")
"""Fields of an OpenAI request that say which sample is drawn and how it comes back."""


class OpenAISpec(EngineSpec):
    """Any server that speaks OpenAI's API. The key is only ever read from the environment."""

    kind: Literal["openai"] = "openai"
    url: Annotated[str, Execution] = "http://127.0.0.1:8000/v1"
    """Base URL, with ``/v1``. Where a model is served is not what it is: a moved server keeps its samples."""
    model: str
    """As the server knows it."""
    revision: str = ""
    """Commit or date of the weights, where it is known; an alias alone is recorded as unversioned."""
    api: Literal["chat", "completions"] = "chat"
    key_env: Annotated[str, Execution] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; none is sent where it isn't set."""
    concurrency: Annotated[int, Execution] = Field(default=64, ge=1)
    """Requests in flight at most; fewer while the server says that it has too much."""
    context: Annotated[int, Execution] = Field(default=131_072, ge=16)
    """Tokens a request may use."""
    logprobs: Annotated[bool, Execution] = False
    """Ask for the log-probs of the sampled tokens."""
    timeout: Annotated[float, Execution] = Field(default=600.0, gt=0)
    """Seconds one request may take."""
    patience: Annotated[float, Execution] = Field(default=600.0, ge=0)
    """Seconds for which a server that answers 429 or 503 is asked again."""
    extra_body: dict[str, Any] = {}
    """More fields of the request body, as the server takes them; null leaves one of ours out."""

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_request_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = [name for name in OURS if value.get(name) is not None]
        if taken:
            raise ValueError(f"{taken} is set by the engine itself; null leaves it out")
        return value


AnyEngineSpec = Annotated[LlamaCppSpec | ScriptedSpec | ReplaySpec | OpenAISpec, Field(discriminator="kind")]
