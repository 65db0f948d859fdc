"""When an engine had work: counted where the requests are sent, told to the driver with every report."""

from __future__ import annotations

import time
from dataclasses import dataclass

from schemas.manifest import ReplicaRecord


@dataclass(frozen=True)
class Activity:
    """What an engine did so far, by its worker's own clock.

    Attributes:
        first, last: unix seconds of the first request and of the last answer; 0 before there were any.
        busy_seconds: time with at least one request in the engine.
    """

    first: float = 0.0
    last: float = 0.0
    busy_seconds: float = 0.0
    requests: int = 0
    completion_tokens: int = 0
    node: str = ""
    trouble: str = ""
    """Why the engine doesn't answer just now, where it knows."""

    def after(self, before: ReplicaRecord) -> ReplicaRecord:
        """Return the record of a replica whose earlier engines did ``before``."""
        return before.model_copy(
            update={
                "node": self.node or before.node,
                "first": before.first or self.first,
                "last": max(before.last, self.last),
                "busy_seconds": before.busy_seconds + self.busy_seconds,
                "requests": before.requests + self.requests,
                "completion_tokens": before.completion_tokens + self.completion_tokens,
            }
        )


class Timeline:
    """Counts the requests in an engine, and the time in which there are any."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.in_flight = 0
        self._first = self._last = self._busy = self._since = 0.0
        self._requests = self._tokens = 0
        self._held = self._counted = 0.0

    @property
    def seconds_a_call(self) -> float:
        """How long a request takes on average; 0 before any was answered."""
        return self._held / self._requests if self._requests else 0.0

    def _count_held(self, now: float) -> None:
        """Add up the time that requests were under way, each by itself."""
        self._held += self.in_flight * (now - self._counted)
        self._counted = now

    def enter(self) -> None:
        """Note that a request was sent."""
        now = time.time()
        self._count_held(now)
        if not self.in_flight:
            self._since = now
            self._first = self._first or now
        self.in_flight += 1

    def leave(self, completion_tokens: int = 0) -> None:
        """Note that a request was answered, or failed."""
        self._last = time.time()
        self._count_held(self._last)
        self.in_flight -= 1
        self._requests += 1
        self._tokens += completion_tokens
        if not self.in_flight:
            self._busy += self._last - self._since

    def activity(self) -> Activity:
        """Return what happened so far; a request that is under way counts as busy until now."""
        now = time.time()
        busy, last = (self._busy + now - self._since, now) if self.in_flight else (self._busy, self._last)
        return Activity(self._first, last, busy, self._requests, self._tokens, self.node)
