"""Replies: what an engine says, as a journal keeps it, and as a strategy hears it."""

from __future__ import annotations

from operators.engine import Completion, Scored
from operators.strategies.calls import Call
from operators.strategies.words import Said


def score_of(call: Call) -> Scored | None:
    if call.value is None:
        return None
    return Scored(call.value, tuple(call.values or ()), call.prompt_tokens, call.cached_prompt_tokens)


def call_of(completion: Completion) -> Call:
    return Call(
        "", 0, None, "", "", "generate", "",
        text=completion.text,
        finish=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        cached_prompt_tokens=completion.cached_prompt_tokens,
        completion_tokens=completion.completion_tokens,
        sum_logprob=completion.sum_logprob,
        reasoning=completion.reasoning,
        tool_calls=completion.tool_calls,
        stop=completion.stop,
    )  # fmt: skip


def refused(error: str) -> Call:
    return Call("", 0, None, "", "", "generate", "", finish="error", status="error", error=error)


def said_of(call: Call) -> Said:
    return Said(
        call.text,
        call.finish or "error",
        call.completion_tokens,
        call.prompt_tokens,
        call.cached_prompt_tokens,
        call.sum_logprob,
        call.reasoning,
        call.tool_calls,
        call.error,
        call.call,
    )
