"""The words that all strategies are written in: what is asked, what is said, a node, a bill, the end of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from schemas.conversation import Turn
from schemas.errors import BadInput

POLICY = "policy"
"""The role of the stage's own engine, which every strategy asks."""


@dataclass(frozen=True)
class Ask:
    """One request for completions.

    Attributes:
        prefix: the beginning of the completion, which is continued.
        max_tokens, temperature, top_p, stop: None takes the sampling stage's (which has no stop strings).
        keep_stop: put the stop string behind the text that it ended.
        n: completions of this one request.
        prompt: a rendered prompt (``Episode.render``); None is the problem's own, as plain sampling asks it.
        parent: the call whose text the prefix begins with, for the tree that people look at.
        prefix_tokens: about how many tokens the prefix has, for the caps of an episode; 0: it is counted there.
        json_schema, regex: guided decoding.
    """

    prefix: str = ""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    keep_stop: bool = True
    temperature: float | None = None
    top_p: float | None = None
    n: int = 1
    role: str = POLICY
    prompt: str | None = None
    parent: str | None = None
    prefix_tokens: int = 0
    json_schema: Mapping[str, object] | None = None
    regex: str | None = None


def refuse_twins(asks: Sequence[Ask], temperature: float) -> None:
    """Refuse a group that would get one answer twice: asks that are equal but for their seeds, at temperature 0.

    Args:
        temperature: of asks that say none.

    Raises:
        BadInput: with the remedy.
    """
    greedy = [ask for ask in asks if (temperature if ask.temperature is None else ask.temperature) == 0]
    if any(ask.n > 1 for ask in greedy) or len({repr(ask) for ask in greedy}) < len(greedy):
        raise BadInput(
            "a strategy asks for the same completion several times at temperature 0, and would get one answer; set "
            "sample.temperature above 0"
        )


@dataclass(frozen=True)
class Said:
    """One completion.

    Attributes:
        finish: one of ``schemas.datasets.FINISH_REASONS``; ``cap`` where the episode's cap didn't allow the call.
        tokens: of the completion.
        call: the path of the call that brought it.
    """

    text: str
    finish: str
    tokens: int = 0
    prompt_tokens: int = 0
    cached: int = 0
    sum_logprob: float | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    error: str | None = None
    call: str | None = None


@dataclass(frozen=True)
class Node:
    """A state of a search: the completion so far.

    Attributes:
        text: without the prompt.
        steps: how often it was continued.
        finish: why it ended; empty while it lives.
        score: the scorer's value in [0, 1] of the whole text.
        sum_logprob: of the whole text, in nats; None where one of its steps has none.
        step_logprob: mean log-prob of the last step's tokens.
        cut: whether the last step ended because no more tokens were allowed.
        tokens: of the whole text.
        lineage: slot of its ancestor of the first step.
        slot: its place in the group that made it.
        call: the path of the call that wrote its last step.
    """

    text: str = ""
    parent: Node | None = field(default=None, repr=False, compare=False)
    steps: int = 0
    ended: bool = False
    finish: str = ""
    score: float | None = None
    sum_logprob: float | None = 0.0
    step_logprob: float | None = None
    cut: bool = False
    tokens: int = 0
    prompt_tokens: int = 0
    cached: int = 0
    lineage: int = -1
    slot: int = 0
    call: str | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    error: str | None = None
    turns: tuple[Turn, ...] | None = None
    """The whole conversation, where the row is more than one completion."""

    @staticmethod
    def whole(said: Said, slot: int = 0) -> Node:
        """Return a completion as an ended node."""
        return Node(
            text=said.text,
            steps=1,
            ended=True,
            finish=said.finish,
            sum_logprob=said.sum_logprob,
            step_logprob=None if said.sum_logprob is None else said.sum_logprob / max(1, said.tokens),
            cut=said.finish == "length",
            tokens=said.tokens,
            prompt_tokens=said.prompt_tokens,
            cached=said.cached,
            lineage=slot,
            slot=slot,
            call=said.call,
            reasoning=said.reasoning,
            tool_calls=said.tool_calls,
            error=said.error,
        )

    def scored(self, score: float | None) -> Node:
        return replace(self, score=score)

    def end(self, finish: str) -> Node:
        return replace(self, ended=True, finish=finish)


@dataclass(frozen=True)
class Bill:
    """What an episode's calls took, counted from answers alone.

    Attributes:
        passes, scorer_tokens: of ``score`` and ``likelihood`` requests, apart from the rest.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    passes: int = 0
    scorer_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All that was read and written."""
        return self.prompt_tokens + self.completion_tokens + self.scorer_tokens

    def times(self, factor: int) -> Bill:
        return Bill(*(factor * part for part in self.parts))

    def __add__(self, other: Bill) -> Bill:
        return Bill(*(mine + more for mine, more in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: Bill) -> Bill:
        return Bill(*(mine - less for mine, less in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[int, int, int, int, int, int]:
        return (
            self.calls, self.prompt_tokens, self.cached_prompt_tokens, self.completion_tokens, self.passes,
            self.scorer_tokens,
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What an episode came to.

    Attributes:
        finals: ended nodes; a slot without one is None. In the order of the slots, at most ``Strategy.rows`` of them.
        chosen: the place in ``finals`` of the one that the strategy stands for; None where it found nothing.
        ended_by: ``done``, ``max_steps``, ``cap``, ``first_right``, ``agreed`` or ``nothing``.
        oracle: whether the answer was looked at on the way: an upper bound, not a method.
        counterfactual: whether it had the model write what isn't true, and read it.
    """

    finals: tuple[Node | None, ...]
    chosen: int | None
    ended_by: str = "done"
    oracle: bool = False
    counterfactual: bool = False
