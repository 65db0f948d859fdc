"""Samples a second against a server that answers every request in 50 ms: Gristmill and what one would use instead.

    python -m tests.benchmarks.throughput --peers /tmp/peers            # makes the peers' environment on first use
    python -m tests.benchmarks.throughput --only gristmill,datatrove --json out.json

Everything shares this machine's cores with the server. For each tool and shape: samples a second once it is started,
seconds to the first row that would survive a crash, requests in flight at the server at most, peak memory (PSS) of the
tool's processes, and the calls that are wasted when it is killed (SIGKILL) at half and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import PeakMemory

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SHAPES = ((1000, 1), (10, 1000))
PACKAGES = ("datatrove", "distilabel", "openai", "aiohttp", "httpx", "orjson", "aiosqlite", "aiofiles", "requests")
SECONDS = 600


@dataclass(frozen=True)
class Tool:
    """One way to do the job."""

    name: str
    script: str
    own_environment: bool = True
    checkpoints: bool = False
    environment: tuple[tuple[str, str], ...] = ()


TOOLS = (
    Tool("gristmill (local)", "gristmill_peer", own_environment=False),
    Tool("gristmill (ray)", "gristmill_peer", own_environment=False, environment=(("GRISTMILL_BENCH_RUNNER", "ray"),)),
    Tool("datatrove, checkpoints", "datatrove_peer", checkpoints=True),
    Tool("datatrove, none", "datatrove_peer"),
    Tool("distilabel", "distilabel_peer"),
    Tool("ray data", "ray_data_peer", own_environment=False),
)


@dataclass
class Figures:
    """What was measured of one tool in one shape; None where it didn't get so far."""

    tool: str
    problems: int
    samples: int
    seconds: float | None = None
    samples_per_second: float | None = None
    first_durable_seconds: float | None = None
    most_in_flight: int | None = None
    peak_mb: int | None = None
    calls: int | None = None
    wasted_after_kill: int | None = None
    error: str = ""


class Server:
    """The stub server in a process of its own."""

    def __init__(self, milliseconds: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "tests.benchmarks.stub_server", "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--milliseconds", str(milliseconds)], cwd=REPOSITORY)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        while True:
            try:
                self.stats()
                return
            except OSError:
                time.sleep(0.1)

    def stats(self) -> dict[str, int]:
        return json.loads(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30).read())

    def reset(self) -> None:
        ask = urllib.request.Request(f"http://127.0.0.1:{self.port}/reset", method="POST")
        urllib.request.urlopen(ask, timeout=30)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def peers_python(folder: Path) -> str:
    """Return the Python of the peers' environment, made on first use."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making the peers' environment in {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return str(python)


@contextmanager
def started(tool: Tool, python: str, url: str, shape: tuple[int, int], concurrency: int, out: Path) -> Iterator[Any]:
    """Start a tool; kill what is left of its process group at the end."""
    problems, samples = shape
    target = ["-m", f"tests.benchmarks.peers.{tool.script}"]
    if tool.script != "gristmill_peer":
        target = [str(HERE / "peers" / f"{tool.script}.py")]
    arguments = ["--url", url, "--problems", problems, "--samples", samples, "--concurrency", concurrency, "--out", out]
    command = [python, *target, *map(str, arguments), *(["--checkpoints"] if tool.checkpoints else [])]
    environment = {**os.environ, **dict(tool.environment)}
    if not tool.own_environment:
        environment["PYTHONPATH"] = str(REPOSITORY)
    with open(out.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill(process)


def kill(process: Any) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_line(process: Any, word: str) -> str:
    """Return the rest of the line that begins with ``word``.

    Raises:
        RuntimeError: the process ended before.
    """
    watchdog = threading.Timer(SECONDS, lambda: kill(process))
    watchdog.start()
    try:
        for line in process.stdout:
            if line.startswith(word):
                return line[len(word) :].strip()
    finally:
        watchdog.cancel()
    raise RuntimeError(f"ended without {word} (code {process.wait()})")


def durable_rows(tool: Tool, out: Path) -> bool:
    """Whether a row is on disk that another process can read."""
    if tool.script == "gristmill_peer":
        return any(_lists_a_file(log) for log in out.glob("root/samples/*/_delta_log/*.json"))
    if tool.script == "datatrove_peer":
        rows = any(b"\n" in file.read_bytes() for file in out.glob("*.jsonl"))
        return rows or (tool.checkpoints and _sqlite_has_rows(out))
    return any(file.stat().st_size > 0 for file in out.rglob("*.parquet"))


def _lists_a_file(log: Path) -> bool:
    return '"add"' in log.read_text()


def _sqlite_has_rows(out: Path) -> bool:
    import sqlite3

    for file in out.rglob("*.db"):
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0.2) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    if database.execute(f"select 1 from {table} limit 1").fetchone():
                        return True
        except sqlite3.Error:
            continue
    return False


def measure(
    tool: Tool, python: str, server: Server, shape: tuple[int, int], concurrency: int, scratch: Path
) -> Figures:
    """Run a tool to its end once, then once more with a SIGKILL at half and a second start."""
    figures = Figures(tool.name, *shape)
    wanted = shape[0] * shape[1]
    out = Path(tempfile.mkdtemp(dir=scratch))
    try:
        server.reset()
        with started(tool, python, server.url, shape, concurrency, out) as process, PeakMemory(process.pid) as memory:
            wait_for_line(process, "READY")
            began = time.perf_counter()
            first = threading.Thread(target=lambda: _watch_first_row(tool, out, began, figures), daemon=True)
            first.start()
            figures.seconds = json.loads(wait_for_line(process, "DONE"))["seconds"]
            figures.samples_per_second = wanted / figures.seconds
        stats = server.stats()
        figures.calls, figures.most_in_flight = stats["completions"], stats["most_in_flight"]
        figures.peak_mb = memory.total // 2**20
        figures.wasted_after_kill = wasted(tool, python, server, shape, concurrency, scratch)
    except Exception as error:
        tail = out.with_suffix(".log").read_text()[-500:] if out.with_suffix(".log").exists() else ""
        figures.error = f"{error}: {tail}"
    shutil.rmtree(out, ignore_errors=True)
    return figures


def _watch_first_row(tool: Tool, out: Path, began: float, figures: Figures) -> None:
    while figures.seconds is None and time.perf_counter() - began < SECONDS:
        if durable_rows(tool, out):
            figures.first_durable_seconds = time.perf_counter() - began
            return
        time.sleep(0.05)


def wasted(tool: Tool, python: str, server: Server, shape: tuple[int, int], concurrency: int, scratch: Path) -> int:
    """Return how many more completions than wanted were paid for when the tool is killed at half and started again."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    wanted = shape[0] * shape[1]
    server.reset()
    with started(tool, python, server.url, shape, concurrency, out) as process:
        wait_for_line(process, "READY")
        while server.stats()["completions"] < wanted // 2 and process.poll() is None:
            time.sleep(0.02)
    with started(tool, python, server.url, shape, concurrency, out) as process:
        wait_for_line(process, "DONE")
    shutil.rmtree(out, ignore_errors=True)
    return server.stats()["completions"] - wanted


def show(rows: list[Figures]) -> None:
    heads = ("tool", "shape", "samples/s", "seconds", "first durable", "in flight", "peak MB", "wasted after kill")
    print(" | ".join(heads))
    for row in rows:
        rate, seconds, first = row.samples_per_second, row.seconds, row.first_durable_seconds
        cells = [
            row.tool,
            f"{row.problems} x {row.samples}",
            f"{rate:,.0f}" if rate else "-",
            f"{seconds:.2f}" if seconds else "-",
            f"{first:.2f}" if first else "at the end",
            str(row.most_in_flight),
            str(row.peak_mb),
            str(row.wasted_after_kill),
        ]
        print(" | ".join(cells) + (f" | {row.error.splitlines()[0][:120]}" if row.error else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "gristmill-peers")
    parser.add_argument("--only", default="", help="names that a tool must begin with, separated by commas")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    chosen = [tool for tool in TOOLS if tool.name.startswith(tuple(options.only.split(",")))]
    rows: list[Figures] = []
    server = Server(options.milliseconds)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for shape in SHAPES:
                for tool in chosen:
                    python = peers_python(options.peers) if tool.own_environment else sys.executable
                    rows.append(measure(tool, python, server, shape, options.concurrency, Path(scratch)))
                    show(rows[-1:])
    finally:
        server.stop()
    print()
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
