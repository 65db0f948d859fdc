"""The engine protocol: whatever produces completions from a model. Implementations live in the cluster package.

One request is one prompt and one seed. It usually asks for one sample, so that a text doesn't depend on how the work
was cut up; engines may be asked for ``n`` at once where that is measured to be clearly faster, in fixed blocks aligned
to multiples of the block size. A request may also carry the beginning of its completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.engine import SamplingParams


class EngineError(Exception):
    """A request failed. ``transient`` says whether the same request may succeed later."""

    def __init__(self, message: str, transient: bool = False) -> None:
        super().__init__(message, transient)
        self.message = message
        self.transient = transient

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Request:
    """Ask for ``n`` completions of a rendered prompt (``Engine.render``)."""

    prompt: str
    params: SamplingParams
    seed: int
    n: int = 1
    request_id: str = ""
    """PROBLEM_KEY/SAMPLE_INDEX: names the request in errors, and is what a replaying engine looks up."""
    problem_id: str = ""
    """The user's name of the problem, for a recording that knows no keys."""
    prefix: str = ""
    """The beginning of the completion, which is continued and not given back (search, truncated samples)."""


@dataclass(frozen=True)
class Completion:
    """One completion. Log-probs are nats of the sampled tokens; see ``EngineInfo.logprobs`` for the distribution."""

    text: str
    finish_reason: str
    """One of schemas.datasets.FINISH_REASONS."""
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    reasoning: str | None = None
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    lowest_group_confidence: float | None = None
    tail_confidence: float | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What is recorded of a running engine."""

    model: str
    revision: str
    """Commit or hash of the weights; ``unversioned`` where an alias can't be resolved."""
    family: str
    context: int
    """Tokens one request may use, prompt and completion together."""
    logprobs: str
    """Which distribution: ``raw`` (the model's own), ``sampled`` (tempered, truncated), ``none``, ``as recorded``."""
    version: str = ""
    """Version of the engine's software: recorded, never part of an identity."""


class Engine(Protocol):
    """A loaded model. Methods are coroutines and may run concurrently, up to ``capacity`` at once."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def capacity(self) -> int:
        """How many samples it wants in flight."""
        ...

    async def render(self, messages: Sequence[dict[str, str]], *, chat: bool = True) -> str:
        """Return the prompt text of ``messages``, ready for the assistant (joined contents where ``chat`` is false)."""
        ...

    async def count_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a rendered prompt."""
        ...

    async def generate(self, request: Request) -> list[Completion]:
        """Return exactly ``request.n`` completions, in order.

        Raises:
            EngineError: nothing of this request is usable, a shortfall included; ``transient`` if a retry may help.
        """
        ...

    async def close(self) -> None:
        """Free the model."""
        ...
