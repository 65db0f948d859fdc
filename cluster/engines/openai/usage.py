"""What a server says that a request took, and what counts where it says nothing, or something that can't be.

A count that is missing, zero, negative or absurd is estimated at the worst case, so a cap on tokens or dollars holds
whatever the server says. Where two of its counts differ the larger one counts: ``total_tokens`` has the reasoning that
some leave out of ``completion_tokens``, and log-probs are told of the visible text alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ABSURD = 100
"""A count that is so many times the worst case, and more than any context, is a mistake."""
CACHED = frozenset(
    {
        "prompt_tokens_details", "input_tokens_details", "prompt_cache_hit_tokens", "cache_read_input_tokens",
        "cached_tokens",
    }
)  # fmt: skip
"""Fields that tell what a cache had of the prompt."""
DETAILS = ("completion_tokens_details", "output_tokens_details")
LONGEST_CONTEXT, LONGEST_COMPLETION = 20_000_000, 1_000_000
"""Tokens; no model reads, and none writes, more."""
LONGEST_TOKEN, LONG_TOKENS = 256, 16
"""Characters of a token at most, and of many tokens on average at most: a text that is longer by the first has more
tokens than were counted, and one that is longer by the second was written on beyond its bound."""


class Usage(NamedTuple):
    """What one request took.

    Attributes:
        completion_tokens: of each choice.
        estimated: something of it isn't the server's own count.
    """

    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: tuple[int, ...]
    estimated: bool


class Worst(NamedTuple):
    """The most that a request may take, by what was asked: tokens of its prompt, and of each of its completions."""

    prompt_tokens: int
    completion_tokens: int


def usage_in(answer: Mapping[str, Any]) -> Any:
    """Return what an answer says that it took, in whichever place that stands."""
    if answer.get("usage"):
        return answer["usage"]
    if found := _below(answer, "x_groq").get("usage"):
        return found
    choices = answer["choices"]
    return choices[0].get("usage") if len(choices) == 1 else None


def read_usage(usage: Any, worst: Worst, told: Sequence[int | None], letters: int) -> Usage:
    """Return what a request took.

    Args:
        usage: the server's own object, or what stands in its place.
        told: of each choice, how many log-probs came; None where none were asked for.
        letters: characters that were written; of none zero is a count.
    """
    found: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    most = worst.completion_tokens * len(told)
    if letters > LONG_TOKENS * most:
        most = letters  # nothing bounded it, and a token is a letter at least
    prompt = _count(found, ("prompt_tokens", "input_tokens"), worst.prompt_tokens)
    written = _count(found, ("completion_tokens", "output_tokens"), most, LONGEST_COMPLETION)
    if written is not None and written * LONGEST_TOKEN < letters:
        written = None
    total = _count(found, ("total_tokens",), worst.prompt_tokens + most)
    reasoning = max(
        _count(place, ("reasoning_tokens",), most, LONGEST_COMPLETION) or 0
        for place in (found, *[_below(found, name) for name in DETAILS if name in found])
    )
    visible = sum([count or 0 for count in told])
    if written is not None:
        if reasoning > written:  # counted apart
            written += reasoning
        written = max(written, visible, (total or 0) - (prompt or 0) if prompt else 0)
    elif total and prompt and total > prompt:
        written = total - prompt
    estimated = not prompt or written is None
    if written is None:
        written = max(most, visible)
    prompt, cached = prompt or worst.prompt_tokens, _cached(found)
    apart = cached + (_count(found, ("cache_creation_input_tokens",), worst.prompt_tokens) or 0)
    if apart > prompt:  # counted beside it
        prompt += apart
    return Usage(prompt, cached, _shared_out(written, told), estimated)


def read_prompt(usage: Any, worst: int) -> tuple[int, int, bool]:
    """Return what a text took that was only read: its tokens, those that a cache had, and whether they are estimated.

    Args:
        worst: the most that they can be.
    """
    found: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    told = _count(found, ("prompt_tokens", "input_tokens", "total_tokens"), worst)
    tokens = told or worst
    return tokens, min(_cached(found), tokens), not told


def _shared_out(written: int, told: Sequence[int | None]) -> tuple[int, ...]:
    """Return the tokens of each choice: those whose log-probs came, and an equal share of the others."""
    known = [count or 0 for count in told]
    rest = written - sum(known)
    each, more = divmod(max(0, rest), len(told))
    return tuple(count + each + (place < more) for place, count in enumerate(known))


def _cached(usage: Mapping[str, Any]) -> int:
    """Return how many tokens of the prompt a cache had, in whichever field that is said."""
    if not CACHED & usage.keys():
        return 0
    places = (
        (_below(usage, "prompt_tokens_details"), "cached_tokens"),
        (_below(usage, "input_tokens_details"), "cached_tokens"),
        (usage, "prompt_cache_hit_tokens"),  # DeepSeek
        (usage, "cache_read_input_tokens"),  # Anthropic's models
        (usage, "cached_tokens"),  # Moonshot
    )
    return max((_number(place.get(name)) or 0 for place, name in places), default=0)


def _below(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = usage.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(usage: Mapping[str, Any], names: Sequence[str], worst: int, longest: int = LONGEST_CONTEXT) -> int | None:
    """Return a count; None where there is none that can be."""
    for name in names:
        if (found := _number(usage.get(name))) is not None:
            return None if found > longest and found > ABSURD * worst else found
    return None


def _number(value: Any) -> int | None:
    """Return a number of tokens, however it is written; None for what is none."""
    if type(value) is int:
        return value if value >= 0 else None
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return int(number) if math.isfinite(number) and number >= 0 else None
