"""Engines in tests: one in an event loop of its own thread, as in a worker; llama.cpp's own server as a process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from cluster.engines import build_engine
from operators.engine import Engine
from schemas.engine import EngineSpec

Result = TypeVar("Result")


class Running:
    """A loaded engine and its event loop."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.engine: Engine = build_engine(spec)

    def do(self, work: Coroutine[Any, Any, Result], seconds: float = 900) -> Result:
        """Run a coroutine in the engine's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=seconds)

    def close(self) -> None:
        self.do(self.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def running(spec: EngineSpec) -> Iterator[Running]:
    """Load an engine, and free it afterwards."""
    found = Running(spec)
    try:
        yield found
    finally:
        found.close()


_SHARED: dict[str, Running] = {}


@contextlib.contextmanager
def shared(spec: EngineSpec) -> Iterator[Running]:
    """Load an engine for everybody in this process who asks for the same, until the tests end."""
    name = spec.model_dump_json()
    if name not in _SHARED:
        _SHARED[name] = Running(spec)
    yield _SHARED[name]


def close_shared() -> None:
    """Free the engines that tests share, while the interpreter can still start threads for it."""
    while _SHARED:
        _SHARED.popitem()[1].close()


LLAMA_SERVER = """
import sys
import xllamacpp
from cluster.engines.llama_cpp import _parameters, find_model
from schemas.engine import LlamaCppSpec

spec = LlamaCppSpec(slots=4, context=256)
parameters = _parameters(spec, find_model(spec.model), sys.argv[2])
parameters.port = int(sys.argv[1])
server = xllamacpp.Server(parameters)
print("up", flush=True)
sys.stdin.read()  # until whoever started it is gone
"""


@contextlib.contextmanager
def llama_server(key: str) -> Iterator[str]:
    """Run llama.cpp's HTTP server on the embedded model, guarded by ``key``; yield its base URL."""
    port = free_port()
    command = [sys.executable, "-c", LLAMA_SERVER, str(port), key]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_up(url: str, server: subprocess.Popen[bytes], seconds: float = 900) -> None:
    """Wait for a server's health; fail when it ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended by itself"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing answered at {url}")
