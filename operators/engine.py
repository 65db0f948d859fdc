"""The engine protocol: whatever produces completions or scores from a model. The cluster package implements it.

One request is one prompt and one seed. It usually asks for one sample, so that a text doesn't depend on how the work
was cut up; engines may be asked for ``n`` at once where that is measured to be clearly faster, in fixed blocks aligned
to multiples of the block size. A request may also carry the beginning of its completion. Judges are asked as samples
are drawn (``generate``); reward models and likelihoods are asked with ``score``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import xxhash

from operators.confidence import WINDOW
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.engine import SEARCHES_BY_TOKENS, SamplingParams
from schemas.errors import BadInput
from schemas.unicode import whole


class EngineError(Exception):
    """A request failed.

    Args:
        transient: the same request may succeed later.
        served: it may have been paid for, since nobody knows what the engine did for it; that is so of whatever is
            transient, unless it is said. What was surely not served costs nothing.
        busy: the engine couldn't just now, by its own word or by its silence. That was no try of the request's: it is
            asked again for ``Engine.patience`` seconds, whatever number of tries it has.
        used: prompt and completion tokens that a refused request took all the same.
    """

    def __init__(
        self,
        message: str,
        transient: bool = False,
        *,
        served: bool | None = None,
        busy: bool = False,
        used: tuple[int, int] = (0, 0),
    ) -> None:
        message = whole(message)
        super().__init__(message, transient)
        self.message = message
        self.transient = transient
        self.served = transient if served is None else served
        self.busy = busy
        self.used = used

    def __reduce__(self) -> tuple[Any, ...]:
        return _engine_error, (type(self), self.message, self.transient, self.served, self.busy, self.used)

    def __str__(self) -> str:
        return self.message


def _engine_error(
    kind: type[EngineError], message: str, transient: bool, served: bool, busy: bool, used: tuple[int, int]
) -> EngineError:
    return kind(message, transient, served=served, busy=busy, used=used)


class CallLost(EngineError):
    """The engine died while it had the request, and there will be another: it is asked again, which is no try."""


class EngineDied(Exception):
    """The engine is gone, in its own last words; nothing more can be asked of it."""


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
    window: int = WINDOW
    """Tokens of a group, for the confidences."""
    cut_below: float | None = None
    """End the completion (``finish_reason = cut``) once a whole group's confidence is below this."""


@dataclass(frozen=True)
class Completion:
    """One completion. Log-probs are nats of the sampled tokens; see ``EngineInfo.logprobs`` for the distribution."""

    text: str
    finish_reason: str
    """One of schemas.datasets.FINISH_REASONS. ``stop_string`` only where the engine told it: see ``EngineInfo.stops``.
    """
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    reasoning: str | None = None
    tool_calls: str | None = None
    """What it calls, where the engine tells that apart: JSON, as in a stored turn."""
    estimated: bool = False
    """Whether its tokens aren't the engine's own count, but the most that they can be."""
    stop: str | None = None
    """Which stop string ended it; None where none did, or where the engine doesn't say which of several it was. It is
    the end of the text where ``SamplingParams.keep_stop`` is set, and left out of it elsewhere."""
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    lowest_group_confidence: float | None = None
    tail_confidence: float | None = None
    bottom_group_confidence: float | None = None
    mean_confidence: float | None = None


@dataclass(frozen=True)
class ScoreRequest:
    """Ask for the score of one completion of a rendered prompt.

    Attributes:
        kind: ``reward``: a reward model's score of the whole text; ``steps``: a process reward model's score at each
            ``step_tag``; ``likelihood``: the log-prob of the completion under the model itself, in nats.
        step_tag: a text of one token that the completion has behind each of its steps.
    """

    prompt: str
    completion: str
    kind: Literal["reward", "steps", "likelihood"] = "reward"
    step_tag: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class Scored:
    """The score of one completion.

    Attributes:
        score: the reward; of several labels' the last one's (where the last is the good one, as in binary classifiers).
            ``steps``: their minimum. ``likelihood``: the sum of the log-probs.
        steps: the score of each step, or the log-prob of each token.
        estimated: whether the tokens aren't the engine's own count, but the most that they can be.
    """

    score: float
    steps: tuple[float, ...] = ()
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    estimated: bool = False


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
    seeds: str = ""
    """What a seed promises: ``exact`` (the same request gives the same text), ``nearly`` (the same draws from
    probabilities that depend in their last digits on what shares the batch: texts are usually equal), ``asked`` (the
    seed is sent; what the server makes of it isn't known)."""
    stops: Literal["told", "untold"] = "untold"
    """Whether ``finish_reason`` tells a stop string from the model's own end. ``untold`` is also what isn't known yet:
    a server shows it with its first answer that a stop string ended (``Desk.tells_stops`` asks for one)."""


class Engine(ABC):
    """A loaded model. Methods are coroutines and may run concurrently, up to ``capacity`` at once.

    Attributes:
        info: what is recorded of it.
        capacity: how many requests it wants in flight: what it works on at once, and some that wait for their turn.
    """

    info: EngineInfo
    capacity: int
    counts: bool = True
    """Whether it tells the tokens that it used; a recording may not."""
    patience: float = 0.0
    """Seconds for which a request that the engine can't serve just now is asked again."""
    priority: int = 0
    """Of this run's requests, where the engine serves others too (``EngineSpec.shared``): smaller ones go first."""

    @property
    def there(self) -> bool:
        """Whether it can be asked now: one that has workers of its own may be starting, or be replaced."""
        return True

    @property
    def trouble(self) -> str:
        """Why requests aren't answered just now, where the engine knows: a server is down, or has too much to do."""
        return ""

    @property
    def refusal(self) -> str:
        """Why nothing that was asked was ever taken, in a server's own words; empty where something was served, nothing
        was refused yet, or refusals differ."""
        return ""

    @abstractmethod
    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        """Return the prompt text of ``messages``, ready for the assistant (joined contents where ``chat`` is false).

        Args:
            messages: as OpenAI writes them (``schemas.conversation.spoken``).
            tools: those that the model may call, as OpenAI describes them.
            answered: the last turn is the assistant's: the whole conversation, as it is scored.

        Raises:
            BadInput: the model or the engine has no place for something of the conversation.
        """
        ...

    @abstractmethod
    async def count_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a rendered prompt."""
        ...

    async def most_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt may be paid for at most; more than ``count_tokens`` where that guesses."""
        return await self.count_tokens(prompt)

    @abstractmethod
    async def generate(self, request: Request) -> list[Completion]:
        """Return exactly ``request.n`` completions, in order.

        Raises:
            EngineError: nothing of this request is usable, a shortfall included; ``transient`` if a retry may help.
        """

    async def score(self, request: ScoreRequest) -> Scored:
        """Return the score of one completion.

        Raises:
            BadInput: this engine, or its model, gives no scores of this kind.
            EngineError: this text can't be scored (too long); ``transient`` if a retry may help.
        """
        raise BadInput(f"engine '{self.info.family}' gives no scores of kind '{request.kind}'")

    async def grow_tree(self, request: TreeRequest) -> Tree:
        """Return what a search by tokens finds, which is carried out inside the engine.

        Raises:
            BadInput: this engine can't, or the file of rewards isn't one for its model.
            EngineError: the prompt leaves no room for ``max_tokens``; ``transient`` if a retry may help.
        """
        raise BadInput(f"engine '{self.info.family}' can't search by tokens: {SEARCHES_BY_TOKENS}")

    async def sleep(self) -> None:
        """Give the GPUs' memory to others until ``wake``; nothing is in flight. A sleeping engine takes no requests."""
        raise BadInput(f"engine '{self.info.family}' can't take turns with others: it doesn't give its memory back")

    async def wake(self) -> None:
        """Take the memory back."""
        raise BadInput(f"engine '{self.info.family}' can't take turns with others: it doesn't give its memory back")

    @abstractmethod
    async def close(self) -> None:
        """Free the model."""


def ended_by(completion: Completion, params: SamplingParams) -> Completion:
    """Return a completion with the stop string that ended it, as its request wants it.

    Where there was only one stop string it is known which; ``keep_stop`` puts it back behind the text.

    Raises:
        EngineError: the text shall end with its stop string, and nothing says which of them it was.
    """
    if completion.finish_reason != "stop_string":
        return completion
    stop = params.stop[0] if completion.stop is None and len(params.stop) == 1 else completion.stop
    if not params.keep_stop:
        return replace(completion, stop=stop)
    if stop is None:
        raise EngineError(f"keep_stop: the engine doesn't say which of {list(params.stop)} ended the text")
    return replace(completion, stop=stop, text=completion.text + stop)


def alone(request: Request) -> list[Request]:
    """Return ``request.n`` requests for one completion each; the first has the request's own seed."""
    return [replace(request, n=1, seed=child_seed(request.seed, child)) for child in range(request.n)]


def child_seed(seed: int, child: int) -> int:
    """Return the seed of one of a request's completions."""
    return seed if child == 0 else xxhash.xxh3_64_intdigest(f"{seed}/{child}".encode()) & 0x7FFF_FFFF
