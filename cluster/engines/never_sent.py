"""What becomes of a request that nobody waits for any more."""

from __future__ import annotations

import asyncio


class NeverSent(asyncio.CancelledError):
    """A request was given up while it waited for its turn: the engine never saw it, and it costs nothing."""
