"""Calls: what an episode asked, each with a path that doesn't depend on timing, and the journal that keeps them.

An episode that is played again finds its calls by their paths. A call is the same one if its digest is: what was asked,
with which parameters and seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import xxhash


@dataclass(frozen=True)
class Call:
    """One answer to one call (``schemas.datasets.Call`` says what the columns mean)."""

    call: str
    attempt: int
    parent_call: str | None
    branch: str
    role: str
    kind: str
    digest: str
    seed: int | None = None
    prompt_hash: str = ""
    lead: str = ""
    prefix_length: int = 0
    text: str = ""
    finish: str | None = None
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    sum_logprob: float | None = None
    value: float | None = None
    values: tuple[float, ...] | None = None
    reasoning: str | None = None
    tool_calls: str | None = None
    stop: str | None = None
    status: str = "ok"
    error: str | None = None


class Journal(Protocol):
    """Where one episode's calls are kept."""

    def find(self, path: str) -> list[Call]:
        """Return the answers to a call in its newest attempt; several where it asked for several completions."""
        ...

    def note(self, calls: list[Call]) -> None:
        """Keep the answers to one call."""
        ...


class MemoryJournal:
    """A journal that lives as long as its process.

    Args:
        calls: those that were made before.
    """

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls: dict[str, list[Call]] = {}
        for call in calls:
            self._add(call)

    def _add(self, call: Call) -> None:
        path = call.call.partition(":")[0]
        known = self._calls.setdefault(path, [])
        if known and known[0].attempt != call.attempt:
            if known[0].attempt > call.attempt:
                return
            known.clear()
        known.append(call)

    def find(self, path: str) -> list[Call]:
        return list(self._calls.get(path, ()))

    def note(self, calls: list[Call]) -> None:
        for call in calls:
            self._add(call)

    def __iter__(self) -> Any:
        return (call for calls in self._calls.values() for call in calls)


def digest_of(*asked: Any) -> str:
    """Return 32 hex digits of xxh3-128 over the canonical JSON of what is asked."""
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
