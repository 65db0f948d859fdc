"""Rows of samples, from what an engine said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operators.engine import Completion
from schemas.identity import completion_hashes


def sample_row(
    problem: Mapping[str, Any],
    sample_index: int,
    seed: int,
    run_id: str,
    completion: Completion,
    led: bool,
    error: str | None = None,
) -> dict[str, Any]:
    """Return the row of one completion.

    Args:
        led: whether the prompt ended inside a thought.
        error: why there is none.
    """
    whole = (completion.reasoning or "") + completion.text + (completion.tool_calls or "")
    return {
        "problem_key": problem["problem_key"],
        "sample_index": sample_index,
        "problem_id": problem["problem_id"],
        "completion": completion.text,
        "reasoning": completion.reasoning,
        "tool_calls": completion.tool_calls,
        "completion_hash": completion_hashes([whole])[0],
        "status": "error" if error is not None else "ok",
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "cached_prompt_tokens": completion.cached_prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "sum_logprob": completion.sum_logprob,
        "mean_logprob": completion.mean_logprob,
        "lowest_group_confidence": completion.lowest_group_confidence,
        "tail_confidence": completion.tail_confidence,
        "bottom_group_confidence": completion.bottom_group_confidence,
        "mean_confidence": completion.mean_confidence,
        "seed": seed,
        "worker": None,
        "run_id": run_id,
        "error": error,
        "thought_open": led and completion.reasoning is None,
        "tokens_estimated": completion.estimated,
    }
