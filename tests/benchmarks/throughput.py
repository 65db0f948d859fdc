"""Samples a second against a server that answers every request in 50 ms: Gristmill and what one would use instead.

    python -m tests.benchmarks.throughput --peers FOLDER                # makes the peers' environments on first use
    python -m tests.benchmarks.throughput --only gristmill,datatrove --json out.json

Everything shares this machine's cores with the server. What is told of each tool and shape:

* samples/s: from the server's first request to the tool's end, its last row written; what comes before is *start*.
* first row: seconds from the first request to the first row on disk that another process can read.
* cpu ms: CPU time of all the tool's processes for each sample, imports included; it tells most on a busy machine.
* in flight: requests at the server at most (the tools are told the same limit).
* peak MB: PSS of the tool's processes together, shared memory left out.
* wasted: completions paid for beyond those wanted, when all processes are killed (SIGKILL) once half of the completions
  were asked for, and the tool is started again with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.launch import (
    TOOLS,
    CpuTime,
    Server,
    Tool,
    has_durable_row,
    kill,
    python_of,
    started,
    wait_for_line,
)
from tests.benchmarks.memory import PeakMemory

SHAPES = ((1000, 1), (10, 1000))
STUCK = 60


@dataclass
class Figures:
    """What was measured of one tool in one shape; None where it didn't get so far."""

    tool: str
    problems: int
    samples: int
    samples_per_second: float | None = None
    seconds: float | None = None
    start_seconds: float | None = None
    """From the tool's being ready to the first request."""
    first_row_seconds: float | None = None
    cpu_ms: float | None = None
    most_in_flight: int | None = None
    peak_mb: int | None = None
    calls: int | None = None
    """Completions that were asked for, in the run that wasn't disturbed."""
    wasted: int | None = None
    resumed_seconds: float | None = None
    """How long the second start took, from its being ready."""
    load: float = 0.0
    """The machine's load average over the last minute when it began: what else was going on."""
    error: str = ""


class Bench:
    """All tools against one server."""

    def __init__(self, server: Server, concurrency: int, scratch: Path) -> None:
        self.server = server
        self.concurrency = concurrency
        self.scratch = scratch

    def measure(self, tool: Tool, shape: tuple[int, int], peers: Path, repeat: int) -> Figures:
        """Run a tool to its end (the median of ``repeat`` runs is told), then with a SIGKILL at half."""
        figures = Figures(tool.name, *shape)
        try:
            python = python_of(tool, peers)
            runs = [self._undisturbed(tool, python, shape) for _ in range(repeat)]
            figures = sorted(runs, key=lambda run: run.seconds or 0)[repeat // 2]
        except Exception as error:
            figures.error = f"{type(error).__name__}: {error}"
            return figures
        try:
            figures.wasted, figures.resumed_seconds = self._killed(tool, python, shape)
        except Exception as error:
            figures.error = f"killed at half and started again: {error}"
        return figures

    def _undisturbed(self, tool: Tool, python: str, shape: tuple[int, int]) -> Figures:
        figures = Figures(tool.name, *shape, load=os.getloadavg()[0])
        out = self._folder()
        self.server.reset()
        with started(tool, python, self._arguments(shape), out) as process, PeakMemory(process.pid) as memory:
            ready = json.loads(self._wait(process, "READY", out))
            cpu = CpuTime(process.pid)
            watcher = threading.Thread(target=self._watch_first_row, args=(tool, out, figures), daemon=True)
            watcher.start()
            done = json.loads(self._wait(process, "DONE", out))
            cpu.stop()
            figures.cpu_ms = 1000 * cpu.seconds / (shape[0] * shape[1])
            stats = self.server.stats()
        figures.start_seconds = stats["first"] - ready["at"]
        figures.seconds = done["at"] - stats["first"]
        watcher.join()
        figures.samples_per_second = shape[0] * shape[1] / figures.seconds
        figures.calls, figures.most_in_flight = stats["completions"], stats["most_in_flight"]
        figures.peak_mb = memory.total // 2**20
        self._check(stats["completions"], shape)
        shutil.rmtree(out, ignore_errors=True)
        return figures

    def _killed(self, tool: Tool, python: str, shape: tuple[int, int]) -> tuple[int, float]:
        out = self._folder()
        wanted = shape[0] * shape[1]
        self.server.reset()
        with started(tool, python, self._arguments(shape), out) as process:
            self._wait(process, "READY", out)
            while self.server.stats()["completions"] < wanted // 2 and process.poll() is None:
                time.sleep(0.02)
        with started(tool, python, self._arguments(shape), out) as process:
            ready = json.loads(self._wait(process, "READY", out))
            stuck = threading.Event()
            threading.Thread(target=self._end_if_stuck, args=(process, stuck), daemon=True).start()
            try:
                done = json.loads(self._wait(process, "DONE", out))
            except RuntimeError as error:
                if stuck.is_set():
                    raise RuntimeError(f"it hangs: no request for {STUCK} s, and no end") from error
                raise
        completions = self.server.stats()["completions"]
        self._check(completions, shape)
        shutil.rmtree(out, ignore_errors=True)
        return completions - wanted, done["at"] - ready["at"]

    def _end_if_stuck(self, process: Any, stuck: threading.Event) -> None:
        """Kill a tool that asks for nothing for ``STUCK`` seconds and doesn't end either."""
        before, since = -1, time.monotonic()
        while process.poll() is None and time.monotonic() - since < STUCK:
            time.sleep(1)
            now = self.server.stats()["completions"]
            if now != before:
                before, since = now, time.monotonic()
        if process.poll() is None:
            stuck.set()
            kill(process)

    def _check(self, completions: int, shape: tuple[int, int]) -> None:
        if completions < shape[0] * shape[1]:
            raise RuntimeError(f"asked for only {completions} completions of {shape[0] * shape[1]}")

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def _arguments(self, shape: tuple[int, int]) -> list[Any]:
        sizes = ["--problems", shape[0], "--samples", shape[1], "--concurrency", self.concurrency]
        return ["--url", self.server.url, *sizes]

    def _wait(self, process: Any, word: str, out: Path) -> str:
        try:
            return wait_for_line(process, word)
        except RuntimeError as error:
            said = out.with_suffix(".log").read_text(errors="replace").strip()[-600:]
            raise RuntimeError(f"{error}; its last words: {said}") from error

    def _watch_first_row(self, tool: Tool, out: Path, figures: Figures) -> None:
        """Look every 50 ms; a tool whose first row comes with its end is told by its end."""
        while not has_durable_row(tool, out):
            if figures.seconds is not None:
                return
            time.sleep(0.05)
        found = time.monotonic()
        figures.first_row_seconds = found - self.server.stats()["first"]


def table(rows: list[Figures]) -> str:
    """Return the figures as a Markdown table."""
    heads = ("tool", "shape", "samples/s", "start s", "first row s", "cpu ms", "in flight", "peak MB", "wasted")
    lines = [heads, tuple("-" * len(head) for head in heads)]
    for row in rows:
        rate = "-" if row.samples_per_second is None else f"{row.samples_per_second:,.0f}"
        times = ["-" if value is None else f"{value:.1f}" for value in (row.start_seconds, row.first_row_seconds)]
        times.append("-" if row.cpu_ms is None else f"{row.cpu_ms:.2f}")
        counts = ["-" if value is None else f"{value:,}" for value in (row.most_in_flight, row.peak_mb, row.wasted)]
        lines.append((row.tool, f"{row.problems:,} x {row.samples:,}", rate, *times, *counts))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    failed = [f"{row.tool}, {row.problems} x {row.samples}: {_brief(row.error)}" for row in rows if row.error]
    return "\n".join([*text, *failed])


def _brief(error: str) -> str:
    """Return the first and the last line of an error; the whole is in the JSON."""
    lines = error.strip().splitlines()
    return " ... ".join(line[:200] for line in (lines[:1] + lines[1:][-1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "gristmill-peers")
    parser.add_argument("--only", default="", help="what a tool's name must begin with; several with commas between")
    parser.add_argument("--shape", default="", help="PROBLEMSxSAMPLES instead of 1000x1 and 10x1000")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--milliseconds", type=float, default=50.0, help="what the server takes for a request")
    parser.add_argument("--repeat", type=int, default=1, help="undisturbed runs of each; the median is told")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    chosen = [tool for tool in TOOLS if tool.name.startswith(tuple(options.only.split(",")))]
    shapes = [tuple(map(int, options.shape.split("x")))] if options.shape else SHAPES
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    rows: list[Figures] = []
    server = Server(options.milliseconds)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(server, options.concurrency, Path(scratch))
            for problems, samples in shapes:
                for tool in chosen:
                    rows.append(bench.measure(tool, (problems, samples), options.peers, options.repeat))
                    print(*table(rows[-1:]).splitlines()[2:], sep="\n", file=sys.stderr)
    finally:
        server.stop()
    print(table(rows))
    if options.json:
        about = {"cores": os.cpu_count(), "python": platform.python_version(), "concurrency": options.concurrency}
        about |= {"milliseconds": options.milliseconds, "repeat": options.repeat}
        options.json.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
