"""What this machine is, in words: GPUs where an engine uses them, else CPUs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from pathlib import Path

from schemas.engine import EngineSpec, OpenAISpec


def describe(spec: EngineSpec) -> str:
    """Return for example ``2 x NVIDIA H100 80GB HBM3``, ``4 CPUs (AMD EPYC 7763)``, or a server's address."""
    if isinstance(spec, OpenAISpec):
        return f"the server at {spec.url}"
    if spec.gpus:
        names = _gpus()
        if names:
            return ", ".join(f"{count} x {name}" for name, count in Counter(names).items())
    return f"{len(os.sched_getaffinity(0))} CPUs ({_cpu()})"


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.check_output(command, text=True, timeout=20, stderr=subprocess.DEVNULL).split("\n")[:-1]
    except (OSError, subprocess.SubprocessError):
        return []


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
