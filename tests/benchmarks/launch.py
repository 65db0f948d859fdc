"""Starting and ending what a benchmark compares: the stub server, each tool in its own processes and environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import descendants

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SECONDS = 600
"""How long any one run of a tool may take."""


@dataclass(frozen=True)
class Tool:
    """One way to do the job."""

    name: str
    script: str
    packages: tuple[str, ...] = ()
    """What its own environment has; none: it runs in Gristmill's."""
    arguments: tuple[str, ...] = ()


DATATROVE = ("datatrove", "aiohttp", "httpx", "orjson", "aiosqlite", "aiofiles", "xxhash")
"""What its inference extra needs for an endpoint, without vLLM and torch."""
TOOLS = (
    Tool("gristmill local", "gristmill_peer"),
    Tool("gristmill ray", "gristmill_peer", arguments=("--ray",)),
    Tool("datatrove checkpoints", "datatrove_peer", DATATROVE, ("--checkpoints",)),
    Tool("datatrove plain", "datatrove_peer", DATATROVE),
    Tool("distilabel", "distilabel_peer", ("distilabel[openai]", "requests")),
    Tool("raydata checkpoints", "ray_data_peer", arguments=("--checkpoints",)),
    Tool("raydata plain", "ray_data_peer"),
)


class Server:
    """The stub server in a process of its own."""

    def __init__(self, milliseconds: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = ["--port", str(self.port), "--milliseconds", str(milliseconds), "--minutes", "120"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.stub_server", *options], cwd=REPOSITORY
        )
        self.url = f"http://127.0.0.1:{self.port}/v1"
        while self.process.poll() is None:
            with suppress(OSError):
                self.stats()
                return
            time.sleep(0.1)
        raise RuntimeError("the stub server ended at once")

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            return json.loads(answer.read())

    def reset(self) -> None:
        """Count anew, once nobody is served any more."""
        while self.stats()["in_flight"]:
            time.sleep(0.05)
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/reset", method="POST"), timeout=30)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def python_of(tool: Tool, folder: Path) -> str:
    """Return the Python that a tool runs in; its environment under ``folder`` is made on first use.

    Raises:
        RuntimeError: it can't be installed, with the last words of pip.
    """
    if not tool.packages:
        return sys.executable
    home = folder / tool.script.removesuffix("_peer")
    python, stamp = home / "bin" / "python", home / "installed"
    if not stamp.exists():
        print(f"installing {' '.join(tool.packages)} in {home}", file=sys.stderr)
        venv.create(home, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", *tool.packages], text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"can't be installed: {done.stderr[-500:]}")
        stamp.touch()
    return str(python)


@contextmanager
def started(tool: Tool, python: str, arguments: list[Any], out: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a tool; kill what is left of its process tree at the end."""
    ours = not tool.packages
    target = ["-m", f"tests.benchmarks.peers.{tool.script}"] if ours else [str(HERE / "peers" / f"{tool.script}.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if ours:
        environment["PYTHONPATH"] = str(REPOSITORY)
    with open(out.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            [python, *target, *map(str, arguments), "--out", str(out), *tool.arguments],
            cwd=REPOSITORY,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        watchdog = threading.Timer(SECONDS, lambda: kill(process))
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL a process and all its descendants at once, in whatever process groups they are."""
    if process.poll() is None:
        for pid in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


class CpuTime:
    """CPU time of a process and its descendants, looked at five times a second: those that end are counted too.

    Attributes:
        seconds: so far.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._by_process: dict[int, int] = {}
        self._end = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def seconds(self) -> float:
        return sum(list(self._by_process.values())) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._look()
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            self._look()

    def _look(self) -> None:
        for pid in descendants(self.pid):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._by_process[pid] = int(fields[11]) + int(fields[12])


def wait_for_line(process: subprocess.Popen[str], word: str) -> str:
    """Return the rest of the line that begins with ``word``.

    Raises:
        RuntimeError: the process ended before.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line[len(word) :].strip()
    raise RuntimeError(f"ended without {word} (code {process.wait()})")


def has_durable_row(tool: Tool, out: Path) -> bool:
    """Whether a row is on disk that another process can read now."""
    match tool.script:
        case "gristmill_peer":
            return any('"add"' in log.read_text() for log in out.glob("root/samples/*/_delta_log/*.json"))
        case "datatrove_peer":
            return any(b"\n" in file.read_bytes() for file in out.rglob("*.jsonl")) or any(
                _has_result(file) for file in out.rglob("*.sqlite3")
            )
        case _:
            return any(file.stat().st_size > 0 for file in out.rglob("*.parquet"))


def _has_result(file: Path) -> bool:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0.1)) as database:
        return database.execute("select 1 from request_cache limit 1").fetchone() is not None
    return False
