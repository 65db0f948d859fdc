"""A proxy between S3 clients and the server that loses requests and answers, and takes its time.

It speaks just enough HTTP/1.1 to tell one request from the next: whole requests go on byte by byte (so the ``Host``
header, which is signed, stays what it was), whole responses come back. Faults are drawn from a seed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

NO_BODY = (204, 304)
FAULTS = ("refuse", "cut before", "cut after")
"""503 without passing the request on; the connection closed before the server saw the request; and closed after it
carried the request out, so that the answer is lost."""
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Message:
    """One request or response, whole."""

    head: bytes
    body: bytes

    @property
    def first_line(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    def header(self, name: bytes) -> bytes:
        """Return a header's value; empty where there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return b""


@dataclass
class Proxy:
    """Listens on ``port``, in a thread of its own, and speaks to ``upstream``; use as a context manager.

    Args:
        fault: says what happens to a request (method, path): one of ``FAULTS``, or nothing.
        delay: says how many seconds a request is held up first.
    """

    upstream: int
    fault: Callable[[str, str], str | None] = lambda method, path: None
    delay: Callable[[str, str], float] = lambda method, path: 0.0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    written: Counter[str] = field(default_factory=Counter[str])
    """Folder -> how many Parquet files the server has taken."""
    port: int = 0

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=300)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=300)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=300)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)

    async def _close(self) -> None:
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, and one of ours to the server for it."""
        above: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            above = await asyncio.open_connection("127.0.0.1", self.upstream, limit=2**20)
            while await self._exchange(reader, writer, *above):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side went away, and so does the other
        finally:
            for end in (writer, above[1] if above else None):
                if end is not None:
                    end.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        above_reader: asyncio.StreamReader,
        above_writer: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on and its answer back; return whether the connection stays."""
        request = await _read(reader, writer)
        method, target = request.first_line[:2]
        path = target.partition("?")[0]
        self.requests += 1
        await asyncio.sleep(self.delay(method, path))
        fault = self.fault(method, path)
        if fault is not None:
            self.faults[fault] += 1
        if fault == "refuse":
            writer.write(REFUSED)
            await writer.drain()
        if fault in ("refuse", "cut before"):
            return False
        above_writer.write(request.head + request.body)
        await above_writer.drain()
        answer = await _read(above_reader, None, answers=method)
        if method == "PUT" and path.endswith(".parquet") and answer.first_line[1] == "200":
            self.written[path.rsplit("/", 1)[0]] += 1
        if fault == "cut after":
            return False
        writer.write(answer.head + answer.body)
        await writer.drain()
        return b"close" not in (request.header(b"connection") + answer.header(b"connection")).lower()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, answers: str = "") -> Message:
    """Read one message whole; ``answers`` is the method of the request that a response is to."""
    head = await reader.readuntil(b"\r\n\r\n")
    message = Message(head, b"")
    if writer is not None and message.header(b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    if answers == "HEAD" or (answers and int(message.first_line[1]) in NO_BODY):
        return message
    if b"chunked" in message.header(b"transfer-encoding").lower():
        return Message(head, await _read_chunks(reader))
    return Message(head, await reader.readexactly(int(message.header(b"content-length") or 0)))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        raw += line + await reader.readexactly(size + 2)
        if size == 0:
            return raw


def seeded_faults(seed: str, share: float, only: str = "") -> Callable[[str, str], str | None]:
    """Return faults that strike this share of requests (of those whose path contains ``only``), each kind as often."""
    chance, lock, made = random.Random(seed), threading.Lock(), 0

    def fault(method: str, path: str) -> str | None:
        nonlocal made
        with lock:
            if only not in path or chance.random() >= share:
                return None
            made += 1
            return FAULTS[made % len(FAULTS)]

    return fault
