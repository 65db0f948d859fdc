"""Messages on pipes and sockets: four bytes of length, then JSON."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

LARGEST = 256 << 20


class Closed(Exception):
    """The other side is gone."""


class TooSlow(Exception):
    """The other side didn't answer in time."""


class TooLarge(Exception):
    """The other side wants to send more than may be."""


def write_frame(fd: int, message: Any) -> None:
    """Write one message; blocks until it is written.

    Raises:
        Closed: nobody reads.
    """
    data = json.dumps(message).encode("utf-8", "surrogatepass")
    rest = memoryview(struct.pack(">I", len(data)) + data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except (BrokenPipeError, ConnectionError) as error:
        raise Closed from error


def read_frame(fd: int, until: float | None = None, largest: int = LARGEST) -> Any:
    """Read one message.

    Args:
        until: on ``time.monotonic()``'s clock; None waits for ever.

    Raises:
        Closed, TooSlow, TooLarge: instead of a message.
    """
    [size] = struct.unpack(">I", _exactly(fd, 4, until))
    if size > largest:
        raise TooLarge
    return json.loads(_exactly(fd, size, until).decode("utf-8", "surrogatepass"))


def _exactly(fd: int, size: int, until: float | None) -> bytes:
    parts: list[bytes] = []
    while size:
        if until is not None and not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TooSlow
        try:
            part = os.read(fd, min(size, 1 << 20))
        except ConnectionError as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
