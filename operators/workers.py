"""The worker pool protocol: other processes that run plain functions and can be killed when one doesn't return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from schemas.unicode import whole


class TimedOut:
    """The result of a call that was killed because it took longer than its limit.

    Attributes:
        waited: seconds of its time that its process waited for a core. What waited for long was tried again, alone, and
            was too slow once more.
    """

    def __init__(self, waited: float = 0.0) -> None:
        self.waited = waited


class WorkerFailed:
    """The result of a call that raised, or whose process died; ``message`` says how."""

    def __init__(self, message: str) -> None:
        self.message = whole(message)


class WorkerPool(Protocol):
    """Runs picklable, module-level functions in processes that are killed at their time limit and replaced."""

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], seconds: float) -> list[Any]:
        """Return the result of ``function(*args)`` for each of ``calls``, in order.

        One call that hangs or dies costs itself alone: its result is a ``TimedOut`` or a ``WorkerFailed``.
        """
        ...
