"""The search by tokens itself, for every engine that gives it logits and rewards of next tokens.

In each round every live sequence offers its probable next tokens (``top_p``); of all these, and of the sequences that
have ended, the ``width`` with the largest rewards are kept. A sequence's reward is what was predicted for its last
token. Equal rewards go by log-prob, then by the tokens themselves, so nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from operators.engine import EngineError
from operators.token_tree import Grown, Took, Tree, TreeRequest
from schemas.later import Floats


class Next(NamedTuple):
    """What may come next, a row for each sequence, a column for each token.

    Attributes:
        logits: the model's own.
        rewards: predicted for each token; not finite where they weren't seen when rewards were learnt.
    """

    logits: NDArray[Any]
    rewards: NDArray[Any]


class TokenModel(Protocol):
    """A model that several sequences are continued with at once."""

    @property
    def ends(self) -> Sequence[int]:
        """The tokens that end a text."""
        ...

    @property
    def computed(self) -> int:
        """Tokens that went through it since ``begin``."""
        ...

    @property
    def scorer_read(self) -> int:
        """Those that went through a model of rewards besides."""
        ...

    def begin(self, request: TreeRequest) -> tuple[int, Next]:
        """Read the prompt; return how many tokens it has, and the one sequence that there is now."""
        ...

    def go_on(self, grown: Sequence[tuple[int, int]]) -> Next:
        """Let each sequence be one of the last ones, given by its place, with a token behind it."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Return what tokens say."""
        ...


@dataclass(frozen=True)
class Branch:
    """A sequence: its tokens behind the prompt, and where it comes from."""

    tokens: tuple[int, ...] = ()
    parent: int = 0
    reward: float = 0.0
    logprob: float = 0.0
    ended: bool = False

    @property
    def order(self) -> tuple[Any, ...]:
        """What sorts sequences, the best first."""
        return -self.reward, -self.logprob, self.tokens


def grow(model: TokenModel, request: TreeRequest, stopped: Callable[[], bool] = lambda: False) -> Tree:
    """Carry out a search.

    Args:
        stopped: whether nobody waits for it any more; then what was found so far is returned.

    Raises:
        EngineError: no next token has a probability.
    """
    read, ahead = model.begin(request)
    live, ended = [Branch()], list[Branch]()
    written = passes = 0
    for length in range(request.max_tokens):
        passes += len(live)
        children = [
            child
            for place, branch in enumerate(live)
            for child in _children(branch, place, Next(ahead.logits[place], ahead.rewards[place]), model.ends, request)
        ]
        kept = sorted([*ended, *children], key=lambda branch: branch.order)[: request.width]
        written += sum(len(branch.tokens) > length for branch in kept)
        if not kept:
            raise EngineError(f"request {request.request_id}: the model's logits aren't numbers")
        ended, live = ([branch for branch in kept if branch.ended is over] for over in (True, False))
        if not live or length + 1 == request.max_tokens or stopped():
            break
        ahead = model.go_on([(branch.parent, branch.tokens[-1]) for branch in live])
    return Tree(
        tuple(_grown(model, branch) for branch in [*ended, *live]),
        Took(read, written, passes, model.scorer_read, model.computed),
    )


def _children(branch: Branch, place: int, ahead: Next, ends: Sequence[int], request: TreeRequest) -> list[Branch]:
    """Return a sequence's continuations that may be kept: of its probable next tokens those of the largest rewards."""
    logits = ahead.logits.astype(np.float64)
    logprobs = logits - _log_sum(logits)
    allowed = logprobs.copy()
    if len(branch.tokens) < request.min_tokens:
        allowed[list(ends)] = -np.inf
        if not np.isfinite(allowed).any():  # the model has nothing else to say
            allowed = logprobs
    tokens = probable(allowed, request.top_p, request.temperature)
    rewards = ahead.rewards[tokens].astype(np.float64)
    rewards[~np.isfinite(rewards)] = request.unseen
    best = np.lexsort((tokens, -logprobs[tokens], -rewards))[: request.width]
    return [
        Branch(
            (*branch.tokens, int(tokens[at])),
            place,
            float(rewards[at]),
            branch.logprob + float(logprobs[tokens[at]]),
            int(tokens[at]) in ends,
        )
        for at in best
    ]


def probable(logprobs: Floats, top_p: float, temperature: float) -> Any:
    """Return the fewest most probable tokens that together have the probability ``top_p``, the likeliest first."""
    if temperature == 0.0:
        return np.array([int(np.argmax(logprobs))])
    tempered = logprobs / temperature
    chances = np.exp(tempered - _log_sum(tempered))
    # all tokens below this together have less than what may be left out, and needn't be sorted
    candidates = np.flatnonzero(chances >= (1.0 - top_p) / len(chances))
    candidates = candidates[chances[candidates] > 0.0]
    ranked = candidates[np.argsort(-chances[candidates], kind="stable")]
    if top_p == 1.0:
        return ranked
    enough = int(np.searchsorted(np.cumsum(chances[ranked]), top_p * (1.0 - 1e-12)))
    return ranked[: enough + 1]


def _log_sum(values: Floats) -> float:
    most = values.max()
    return float(most + np.log(np.exp(values - most).sum()))


def _grown(model: TokenModel, branch: Branch) -> Grown:
    said = branch.tokens[:-1] if branch.ended else branch.tokens
    finish = "stop" if branch.ended else "length"
    return Grown(model.text(said), finish, len(branch.tokens), branch.reward, branch.logprob)
