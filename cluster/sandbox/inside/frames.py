"""Messages on pipes and sockets: four bytes of length, then JSON."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

LARGEST = 256 << 20
LOOK = 0.02
"""Seconds between two looks at what the other side does."""
_AT_ONCE = 1 << 16


class Closed(Exception):
    """The other side is gone."""


class TooSlow(Exception):
    """The other side didn't answer in time."""


class TooLarge(Exception):
    """The other side wants to send more than may be."""


class Malformed(Exception):
    """The other side sent what is no message."""


class Frames:
    """Messages through a pair of file descriptors (the same one twice, for a socket).

    Args:
        exact: never read more than one message: another process reads the next.
    """

    def __init__(self, read: int, write: int, *, exact: bool = False, largest: int = LARGEST) -> None:
        self._read, self._write, self._exact, self._largest = read, write, exact, largest
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message; blocks until it is written.

        Raises:
            Closed: nobody reads.
        """
        data = json.dumps(message).encode("utf-8", "surrogatepass")
        rest = memoryview(struct.pack(">I", len(data)) + data)
        try:
            while rest:
                rest = rest[os.write(self._write, rest) :]
        except (BrokenPipeError, ConnectionError) as error:
            raise Closed from error

    def receive(self, until: float | None = None, look: Callable[[], None] | None = None) -> dict[str, Any]:
        """Read one message.

        Args:
            until: on ``time.monotonic()``'s clock, whatever comes meanwhile; None waits for ever.
            look: called every ``LOOK`` seconds until the message is there as a whole.

        Raises:
            Closed, TooSlow, TooLarge, Malformed: instead of a message.
        """
        due = time.monotonic() + LOOK
        while len(self._buffer) < (whole := self._size()):
            now = time.monotonic()
            if until is not None and now >= until:
                raise TooSlow
            if look is not None and now >= due:
                look()
                due = time.monotonic() + LOOK
            self._read_more(whole, until, None if look is None else due)
        message = bytes(self._buffer[4:whole])
        del self._buffer[:whole]
        try:
            found = json.loads(message.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise Malformed from error
        if not isinstance(found, dict):
            raise Malformed
        return found

    def _size(self) -> int:
        """Return the bytes of the next message with its length, or of the length while that isn't there."""
        if len(self._buffer) < 4:
            return 4
        [size] = struct.unpack_from(">I", self._buffer)
        if size > self._largest:
            raise TooLarge
        return 4 + size

    def _read_more(self, size: int, until: float | None, due: float | None) -> None:
        """Wait until one of two times for bytes of a message of so many, and take those that are there."""
        ends = [end for end in (until, due) if end is not None]
        if ends and not select.select([self._read], [], [], max(0.0, min(ends) - time.monotonic()))[0]:
            return
        wanted = size - len(self._buffer)
        try:
            part = os.read(self._read, wanted if self._exact else max(wanted, _AT_ONCE))
        except ConnectionError as error:
            raise Closed from error
        if not part:
            raise Closed
        self._buffer += part
