"""What the chaos tests share: jobs in processes of their own, what they left behind, and how it must look.

A disturbed run is compared with an undisturbed one key by key. What was committed at each disturbance must be there,
unchanged, at the end. And the engine's own log of calls tells what was paid for twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from polars.testing import assert_frame_equal

from cluster.driving.driver import run_pipeline
from cluster.records.reader import find_run, open_stage
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline, merge
from tests.commands import Command
from tests.support import QUICK, write_problems

HERE = Path(__file__).parents[2]
FULL = os.environ.get("GRISTMILL_CHAOS") == "full"
"""``make test-long`` sets it, and ``make chaos``: all of the suite. Without it a part of each case runs."""
SEED = int(os.environ.get("GRISTMILL_CHAOS_SEED", "0"))
"""Another seed disturbs at other points."""
STEPS = 1.0
"""Seconds allowed, beside ``flush_seconds`` and ``commit_seconds``, for the write, the commit and the loops' own steps
between a draw and the moment it is a fact (two busy cores)."""
ORPHAN = 2.5
"""Seconds for which Ray's workers go on after their driver was killed: until they notice that their raylet is gone."""
BOXED = tuple(f"\\boxed{{{answer}}} {{seed}}" for answer in range(3))
"""Answers that differ from sample to sample, and still vote."""
VERDICT = ["problem_key", "sample_index", "predicted_answer", "answer_key", "is_correct", "status"]

Key = tuple[str, int]


@dataclass
class Job:
    """One job file in a folder of its own, and the processes that run it."""

    folder: Path
    root: str = ""
    problems: int = 4
    n: int = 300
    slots: int = 8
    latency: float = 0.05
    replicas: int = 1
    answers: tuple[str, ...] = BOXED
    weights: tuple[float, ...] = ()
    sample: dict[str, Any] = field(default_factory=dict[str, Any])
    verify: dict[str, Any] = field(default_factory=lambda: {"operator": "verify.exact"})
    run: dict[str, Any] = field(default_factory=dict[str, Any])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    privileged: bool = True
    facts: dict[Key, tuple[str, str]] = field(default_factory=dict[Key, tuple[str, str]])
    """What was seen to be committed: key -> (text, mark)."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self.root or str(self.folder / "root")
        write_problems(self.folder / "problems.jsonl", self.problems)
        self.run = {"flush_seconds": 0.3, "commit_seconds": 0.1, **self.run}
        self.write()

    def write(self) -> None:
        """Write the job file (again, after a change)."""
        engine = {"kind": "scripted", "answers": self.answers, "latency": self.latency, "slots": self.slots}
        engine |= {"call_log": str(self.folder / "calls"), "replicas": self.replicas, "weights": self.weights}
        document = {
            "pipeline": "tests.chaos.pipeline",
            "root": self.root,
            "settings": {
                "load": {"source": str(self.folder / "problems.jsonl")},
                "sample": {"n": self.n, **self.sample},
                "engine": engine,
                "verify": self.verify,
            },
            "run": self.run,
        }
        (self.folder / "job.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(document))))

    # -- processes -----------------------------------------------------------------------------------------------

    def start(self, runner: str = "local", *more: str) -> Command:
        """Start the job's one command."""
        return self._spawn("run", "job.yaml", "--runner", runner, *more)

    def gristmill(self, *arguments: str) -> int:
        """Give another command on the job's root; return its exit code."""
        return self.finish(self._spawn(*arguments, "--root", self.root))

    def _spawn(self, *arguments: str) -> Command:
        with open(self.folder / "log", "ab") as log:
            return Command(
                *arguments, folder=self.folder, changes=self.environment, log=log, privileged=self.privileged
            )

    def finish(self, process: Command, seconds: float = 900.0) -> int:
        """Wait for a process; return its exit code."""
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait()
            raise AssertionError(f"it didn't end within {seconds:.0f} s; it said: {self.log()[-3000:]}") from None

    def log(self) -> str:
        """Return what all processes said."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- what is there -------------------------------------------------------------------------------------------

    @property
    def place(self) -> Root:
        return Root.at(self.root)

    def calls(self) -> list[str]:
        """Return what the engine was asked for so far, one entry a call."""
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    def samples(self) -> pl.DataFrame:
        """Return all of the samples' Delta table; empty where it isn't made yet."""
        folders = self.place.list("samples")
        if not folders or not self.place.exists("samples", folders[0], "_delta_log"):
            return pl.DataFrame()
        assert len(folders) == 1, folders
        return self.table(f"samples/{folders[0]}")

    def table(self, folder: str) -> pl.DataFrame:
        """Return all of a Delta table."""
        return pl.read_delta(self.place.uri(folder), storage_options=self.place.storage_options())

    def look(self) -> int:
        """Note what is committed now, and check that nothing that was is gone or changed; return how many samples."""
        rows = self.samples()
        if not rows.width:
            assert not self.facts
            return 0
        assert not rows.select("problem_key", "sample_index").is_duplicated().any()
        columns = rows.select("problem_key", "sample_index", "completion", "worker").rows()
        now = {(key, index): (text, mark) for key, index, text, mark in columns}
        changed = [key for key, fact in self.facts.items() if now.get(key) != fact]
        assert not changed, f"{len(changed)} committed samples are gone or changed, such as {changed[0]}"
        self.facts = now
        return len(now)

    def allowed(self, *, more_seconds: float = 0.0) -> float:
        """Return how many calls one disturbance may cost: what is in flight, unflushed or uncommitted."""
        seconds = self.run["flush_seconds"] + self.run["commit_seconds"] + STEPS + more_seconds
        return self.slots * self.replicas * (1 + seconds / self.latency)

    def repeated(self) -> int:
        """Return how many calls were made for keys that had been asked for before."""
        calls = self.calls()
        return len(calls) - len(set(calls))

    def lost(self) -> int:
        """Look, and return how many calls gave nothing that is committed now: those that will have to be repeated."""
        committed = self.look()
        return len(self.calls()) - committed


def check_same(job: Job, quarantined: set[Key] | None = None) -> None:
    """Compare a job's stores and snapshots with those of an undisturbed run of the same job."""
    left_out = quarantined or set()
    job.look()
    truth = Undisturbed(job)
    manifest = find_run(job.place, "latest")
    paths = {record.name: record.path for record in manifest.stages}
    samples, verdicts = job.table(paths["sample"]), job.table(paths["verify"])
    for rows in (samples, verdicts):
        assert not rows.select("problem_key", "sample_index").is_duplicated().any()
    columns = ["problem_key", "sample_index", "completion", "seed"]
    _equal(samples.select(columns), truth.rows("sample").select(columns))
    expected = truth.rows("verify").select(VERDICT)
    keys = pl.DataFrame(sorted(left_out), schema={"problem_key": pl.String, "sample_index": pl.Int64}, orient="row")
    _equal(verdicts.select(VERDICT), expected.join(keys, on=["problem_key", "sample_index"], how="anti"))
    if left_out:
        return
    assert manifest.state == "done"
    for name in ("select", "coverage"):
        _equal(open_stage(job.place, manifest, name).collect(), truth.rows(name))


class Undisturbed:
    """The same job, run in this process where nothing disturbs it."""

    def __init__(self, job: Job) -> None:
        document: dict[str, Any] = yaml.safe_load((job.folder / "job.yaml").read_text())
        calm: dict[str, Any] = {"latency": 0.0, "call_log": None, "replicas": 1}
        settings = merge(document["settings"], {"engine": calm, "verify": {"operator": "verify.exact"}})
        pipeline, _ = build_pipeline(document["pipeline"], settings)
        runner = LocalRunner()
        try:
            self.result = run_pipeline(pipeline, runner, str(job.folder / "undisturbed"), QUICK)
        finally:
            runner.close()
        assert self.result.manifest.state == "done"

    def rows(self, stage: str) -> pl.DataFrame:
        return self.result.dataset(stage).collect()


def _equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_row_order=False)


def wait_for(what: Callable[[], Any], process: Command | None = None, seconds: float = 600.0) -> None:
    """Wait until something is so; fail where that takes for ever, or the process ends before."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it didn't happen in time"
        assert process is None or process.poll() is None, "the process ended before it happened"
        time.sleep(0.02)


def ends_within(process: Command, seconds: float) -> bool:
    """Whether a process ends by itself in that time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def delayed(pid: int) -> float:
    """Return how many seconds a thread of a process, or of one below it, has waited for a core, at most.

    What a disturbance may cost is told by clocks, which go on while the machine does something else.
    """
    longest = 0
    for process in (pid, *(child for child, _ in descendants(pid))):
        for told in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                longest = max(longest, int(told.read_text().split()[1]))
    return longest / 1e9


def memory(pid: int) -> float:
    """Return how much memory a process has (resident, MiB); 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield (process id, title) of all living processes below one."""
    found: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                title = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            if state not in "ZX":
                found[int(entry.name)] = (int(parent), title)
    family = {pid}
    while more := {child for child, (parent, _) in found.items() if parent in family} - family:
        family |= more
    yield from ((child, found[child][1]) for child in sorted(family - {pid}) if child in found)
