"""Prompts that leave no room for an answer: found before anything is drawn, and told in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from operators.engine import Engine
from operators.sample.sampling import Sampling


class TooLong(NamedTuple):
    """A problem whose prompt leaves no room for ``max_tokens``."""

    problem_key: str
    problem_id: str
    tokens: int


async def is_too_long(operator: Sampling, engine: Engine, problem: Mapping[str, Any], prompt: str) -> TooLong | None:
    """Return what there is to tell of a problem whose prompt is too long for an engine; None where it isn't.

    A token is at least one byte, so a short prompt passes without being tokenised.

    Args:
        prompt: all that the engine reads of the problem before it writes.
    """
    room = engine.info.context - operator.max_tokens
    if len(prompt.encode()) < room:
        return None
    tokens = await engine.count_tokens(prompt)
    return TooLong(problem["problem_key"], problem["problem_id"], tokens) if tokens > room else None


def told(found: list[TooLong], operator: Sampling, context: int, stage: str) -> str:
    """Return the sentence that says which prompts are too long, and what can be done."""
    listed = ", ".join(f"'{one.problem_id}' ({one.tokens} tokens)" for one in found[:5])
    remedy = (
        "they are left out (sample.too_long=skip)"
        if operator.too_long == "skip"
        else f"Raise engine.context, lower {stage}.max_tokens, or leave these problems out: {stage}.too_long=skip"
    )
    return (
        f"stage {stage}: the prompt of {len(found)} problem(s) leaves no room for max_tokens = {operator.max_tokens} "
        f"in the engine's context of {context} tokens: {listed}. {remedy[0].upper()}{remedy[1:]}"
    )
