"""What the tests of vLLM share. They are collected only where vLLM is: ``make test-vllm`` makes that environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest

from cluster.engines import build_engine
from operators.engine import Engine
from schemas.engine import VllmSpec
from tests.with_vllm.models import SMOLLM2, make_all

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

Result = TypeVar("Result")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def spec(**changes: Any) -> VllmSpec:
    """Return SmolLM2 on the CPU in full precision, as changed."""
    common = {"model": str(SMOLLM2), "gpus": 0, "slots": 16, "context": 512, "dtype": "float32"}
    return VllmSpec.model_validate({**common, "engine_kwargs": {"enforce_eager": True}, **changes})


class Running:
    """An engine in an event loop of its own thread, as in a worker."""

    def __init__(self, engine_spec: VllmSpec) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.engine: Engine = build_engine(engine_spec)

    def do(self, work: Coroutine[Any, Any, Result], seconds: float = 120) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=seconds)

    def close(self) -> None:
        self.do(self.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def running(**changes: Any) -> Iterator[Running]:
    found = Running(spec(**changes))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session", autouse=True)
def models() -> None:
    make_all()


@pytest.fixture(scope="session")
def smollm2(models: None) -> Iterator[Running]:
    """SmolLM2 in vLLM, with everything it can tell of a sample."""
    with running(confidence=True) as found:
        yield found


VLLM_COMMAND = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""
"""The command ``vllm``, which asks for the version of a package that the CPU build has under another name."""


@contextlib.contextmanager
def vllm_serve(*arguments: str) -> Iterator[str]:
    """Run ``vllm serve`` on SmolLM2; yield its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", VLLM_COMMAND, "serve", str(SMOLLM2)]
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--max-model-len",
        "512",
        "--max-num-seqs",
        "16",
    ]
    options += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096"]
    server = subprocess.Popen([*command, *options, *arguments], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert server.poll() is None, "vllm serve ended by itself"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise TimeoutError("vllm serve didn't come up")
