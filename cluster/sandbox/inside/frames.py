"""Messages on pipes and sockets: four bytes of length, then JSON."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

LARGEST = 256 << 20
_AT_ONCE = 1 << 16


class Closed(Exception):
    """The other side is gone."""


class TooSlow(Exception):
    """The other side didn't answer in time."""


class TooLarge(Exception):
    """The other side wants to send more than may be."""


class Frames:
    """Messages through a pair of file descriptors (the same one twice, for a socket).

    Args:
        exact: never read more than one message: another process reads the next.
    """

    def __init__(self, read: int, write: int, *, exact: bool = False, largest: int = LARGEST) -> None:
        self._read, self._write, self._exact, self._largest = read, write, exact, largest
        self._buffer = bytearray()

    def send(self, message: Any) -> None:
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

    def ready(self, seconds: float) -> bool:
        """Whether something can be read within so many seconds."""
        return bool(self._buffer) or bool(select.select([self._read], [], [], max(0.0, seconds))[0])

    def receive(self, until: float | None = None) -> Any:
        """Read one message.

        Args:
            until: on ``time.monotonic()``'s clock; None waits for ever.

        Raises:
            Closed, TooSlow, TooLarge: instead of a message.
        """
        self._fill(4, until)
        [size] = struct.unpack_from(">I", self._buffer)
        if size > self._largest:
            raise TooLarge
        self._fill(4 + size, until)
        message = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return json.loads(message.decode("utf-8", "surrogatepass"))

    def _fill(self, size: int, until: float | None) -> None:
        while len(self._buffer) < size:
            if until is not None and not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TooSlow
            wanted = size - len(self._buffer)
            try:
                part = os.read(self._read, wanted if self._exact else max(wanted, _AT_ONCE))
            except ConnectionError as error:
                raise Closed from error
            if not part:
                raise Closed
            self._buffer += part
