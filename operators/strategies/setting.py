"""What an episode is played with: the problem, its prompt, the engines, and what it may take at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.engine import Engine
from operators.strategies.calls import Journal
from operators.strategies.words import Bill
from schemas.conversation import Turn
from schemas.engine import SamplingParams


@dataclass(frozen=True)
class Caps:
    """What one episode may take at most; None: no cap. See ``Strategy.cap_tokens``."""

    tokens: int | None = None
    calls: int | None = None
    scores: int | None = None

    def share(self, spent: Bill, branches: int) -> Caps:
        """Return the caps of one of several branches, among which what is left is split evenly."""
        have = spent.tokens, spent.calls, spent.passes
        caps = self.tokens, self.calls, self.scores
        return Caps(
            *(
                None if cap is None else taken + max(0, cap - taken) // branches
                for cap, taken in zip(caps, have, strict=True)
            )
        )


@dataclass(frozen=True)
class Setting:
    """What all branches of an episode share.

    Attributes:
        problem: what the model may know of it; the answer only where a strategy says so (``Strategy.shows_answers``).
        prompt: the problem's, rendered for the policy; ``lead`` is the beginning of its completion.
        params: the sampling stage's.
        engines: role -> engine.
        chat: whether prompts are conversations.
        tools: what verifiers and tools need (``Operator.tools``).
        turns: the conversation that asks the problem, of which ``prompt`` is made.
    """

    problem: Mapping[str, Any]
    index: int
    seed: int
    prompt: str
    lead: str
    params: SamplingParams
    engines: Mapping[str, Engine]
    journal: Journal
    chat: bool = True
    tools: Mapping[str, Any] = field(default_factory=dict[str, Any])
    turns: tuple[Turn, ...] = ()
