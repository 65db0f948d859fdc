"""Reading a server's answer: its choices as completions, in the forms that servers have for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cluster.engines.openai.usage import Worst, read_usage, usage_in
from cluster.engines.openai.verdicts import words
from operators.engine import Completion, EngineError
from schemas.engine import SamplingParams
from schemas.messages import calls_of

STOPPED_BY = ("stop_reason", "matched_stop", "stop_sequence")
"""Fields in which servers tell the stop string that ended a choice (vLLM, SGLang, gateways to Anthropic's models)."""
FINISH = {
    "": "stop",
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "tool_use": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "stop_string": "stop_string",
    "stop_sequence": "stop_string",
}
"""The server's word -> ours; a word that isn't known is a text that was cut."""
BROKEN = frozenset(
    {
        "error", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error", "internal_error",
        "insufficient_system_resource",
    }
)  # fmt: skip
"""The server didn't finish it: not a completion, however much of it is there."""
FILTERED = frozenset({"content_filter", "content-filter", "sensitive", "safety", "prohibited_content", "blocklist"})
TEXTS = ("text", "output_text")


class Unreadable(Exception):
    """An answer isn't of the form that it should have."""


def read_choices(answer: Any, params: SamplingParams, chat: bool, logprobs: bool, worst: Worst) -> list[Completion]:
    """Return the completions of an answer, in order.

    Args:
        worst: what the request may have taken, for what the server doesn't count.

    Raises:
        Unreadable: it has none, or they aren't what they should be.
        EngineError: a choice was broken off, or is withheld.
    """
    try:
        choices: list[Mapping[str, Any]] = answer["choices"]
        told = [_logprobs(choice.get("logprobs")) if logprobs else None for choice in choices]
        counts = [None if values is None else len(values) for values in told]
        read = [_read(choice, params, chat) for choice in choices]
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Unreadable(words(answer)) from error
    if not read:
        raise Unreadable(f"no choices: {words(answer)}")
    usage = read_usage(usage_in(answer), worst, counts, sum(one.letters for one in read))
    completions: list[Completion] = []
    for one, choice, tokens, values in zip(read, choices, usage.completion_tokens, told, strict=True):
        _see_that_it_is_whole(choice, usage.prompt_tokens, tokens)
        total = None if values is None else _sum(values)
        completion = Completion(
            text=one.text,
            finish_reason=one.finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=tokens,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            reasoning=one.reasoning,
            tool_calls=one.calls,
            stop=one.stop,
            sum_logprob=total,
            mean_logprob=None if total is None or not values else total / len(values),
            estimated=usage.estimated,
        )
        completions.append(completion)
    return completions


class _Choice:
    """What one choice says."""

    def __init__(self, text: str, reasoning: str | None, calls: str | None, finish: str, stop: str | None) -> None:
        self.text = text
        self.reasoning = reasoning
        self.calls = calls
        self.finish = finish
        self.stop = stop

    @property
    def letters(self) -> int:
        """Characters that were written."""
        return len(self.text) + len(self.reasoning or "") + len(self.calls or "")


def _read(choice: Mapping[str, Any], params: SamplingParams, chat: bool) -> _Choice:
    message: Mapping[str, Any] = choice["message"] if chat else choice
    text, thought, refused = _content(message.get("content" if chat else "text"))
    if thinking := message.get("reasoning_content") or message.get("reasoning"):
        thought = _text_of(thinking)
    finish, stop = _finish(choice, params)
    if not text and (refusal := _text_of(message.get("refusal")) or refused):
        text, finish = refusal, "refusal"
    calling = chat and (message.get("tool_calls") or message.get("function_call"))
    return _Choice(text, thought or None, _calls(message) if calling else None, finish, stop)


def _finish(choice: Mapping[str, Any], params: SamplingParams) -> tuple[str, str | None]:
    """Return our word for how a choice ended, and the stop string that ended it."""
    said, stop = str(choice.get("finish_reason") or "").lower(), None
    if not params.stop:
        return FINISH.get(said, "cut"), None
    # vLLM and SGLang tell the string; a number is a token, the model's own end, and other words are a gateway's
    stop = next((found for name in STOPPED_BY if (found := choice.get(name)) in params.stop), None)
    if stop is not None or "stop_sequence" in (choice.get("stop_reason"), choice.get("native_finish_reason")):
        said = "stop_string"
    return FINISH.get(said, "cut"), stop


def _see_that_it_is_whole(choice: Mapping[str, Any], prompt: int, written: int) -> None:
    """Refuse what the server itself says it broke off, or holds back.

    Raises:
        EngineError: busy for what was broken off; permanent for what was filtered.
    """
    said = str(choice.get("finish_reason") or "").lower()
    if said in BROKEN or choice.get("error"):
        why = words({"error": choice["error"]}) if choice.get("error") else "no reason is given"
        raise EngineError(f"the server broke the completion off (finish_reason = {said}: {why})", True, busy=True)
    if said in FILTERED:
        raise EngineError(f"the server filtered the completion (finish_reason = {said})", used=(prompt, written))


def _content(content: Any) -> tuple[str, str, str]:
    """Return what a message says, thinks and refuses: a text, or parts that are joined."""
    if content is None or isinstance(content, str):
        return content or "", "", ""
    if not isinstance(content, list):
        raise TypeError("the completion isn't text")
    said, thought, refused = list[str](), list[str](), list[str]()
    for part in cast("list[Any]", content):
        if isinstance(part, str):
            said.append(part)
            continue
        kind = part["type"]
        if kind in TEXTS:
            said.append(_text_of(part["text"]))
        elif kind in ("thinking", "reasoning", "redacted_thinking"):
            thought.append(_text_of(part.get(kind) or part.get("text") or part.get("thinking")))
        elif kind == "refusal":
            refused.append(_text_of(part["refusal"]))
    return "".join(said), "".join(thought), "".join(refused)


def _text_of(value: Any) -> str:
    """Return a text that may have come in parts."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence):
        return "".join(_text_of(part.get("text") if isinstance(part, Mapping) else part) for part in value)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"{value!r} isn't text")


def _calls(message: Mapping[str, Any]) -> str | None:
    """Return what it calls; one call of the old kind, too."""
    calls: Any = message.get("tool_calls")
    if not calls and (call := message.get("function_call")):
        calls = [{"type": "function", "function": call}]
    return calls_of(calls)


def _logprobs(found: Mapping[str, Any] | None) -> list[float] | None:
    """Return the log-probs of the sampled tokens, in nats; chat and completions name them differently.

    One that a chat doesn't tell is not a number; completions have none of the first token of an echo.
    """
    if not found:
        return None
    if found.get("content") is not None:
        values = [token["logprob"] for token in found["content"]]
        return [math.nan if value is None else float(value) for value in values]
    return [float(value) for value in found.get("token_logprobs") or [] if value is not None]


def _sum(logprobs: list[float]) -> float | None:
    """Return the sum of log-probs; None where one of them isn't known."""
    total = sum(logprobs) if logprobs else math.nan
    return total if math.isfinite(total) else None
