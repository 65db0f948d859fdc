"""The kill matrix: who is killed, on which runner, at which point; the same command then goes on, and nothing is lost.

Whatever dies, no row is blamed for it: a run either goes on by itself or ends with exit code 3 and a sentence.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest

from cluster.records.reader import manifests
from tests.chaos.conftest import Figures
from tests.chaos.support import FULL, SEED, Job, check_same, descendants, ends_within, wait_for
from tests.commands import Command

pytestmark = pytest.mark.chaos
LONG = [pytest.mark.ray, pytest.mark.long]
SEEDS = range(10) if FULL else range(1)
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Those of a raylet's processes with which it ends itself."""
TITLES = {"worker": ("ray::",), "agent": AGENTS, "raylet": ("raylet/raylet",), "gcs": ("gcs/gcs_server",)}
"""What the processes of Ray are called that can be killed beside the driver."""
SLOW_RAY = "Ray didn't start in time"
TRIES = 5
PATIENCE = 120.0
"""Seconds that a run may take to notice that its cluster is gone; Ray itself waits for a lost GCS for a minute."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("runner", "victim"),
    [
        ("local", "driver"),
        pytest.param("ray", "raylet", marks=pytest.mark.ray),
        *(pytest.param("ray", name, marks=LONG) for name in ("driver", "worker", "agent", "gcs")),
    ],
)
def test_whoever_is_killed(tmp_path: Path, figures: Figures, runner: str, victim: str, seed: int) -> None:
    chance = random.Random(f"{runner} {victim} {seed} {SEED}")
    job = Job(tmp_path / "job", n=250, sample={"seed": seed})
    process = _begin(job, runner)
    if not ends_within(process, chance.uniform(0.0, 3.0)):
        _kill(process, victim, chance)
    code = job.finish(process, PATIENCE)
    allowed = {"driver": {-signal.SIGKILL}, "worker": {0}}.get(victim, {0, 3})
    assert code in allowed | {0}, job.log()
    assert "quarantined" not in job.log() and "Traceback" not in job.log() and "It is a defect" not in job.log()
    if code == 3:
        assert "the same command goes on" in job.log().lower(), job.log()
        assert next(iter(manifests(job.place))).state == "incomplete"
    job.look()
    figures |= {"exit code": code, "committed by then": len(job.facts)}
    if code:
        assert job.finish(_begin(job, runner), 600.0) == 0, job.log()
    check_same(job)


def _begin(job: Job, runner: str) -> Command:
    """Start the command until it samples or is done; a Ray that isn't started in time is a busy machine's fault."""
    for _ in range(TRIES):
        said, before = len(job.log()), len(job.calls())
        process = job.start(runner)
        wait_for(lambda p=process, b=before: len(job.calls()) > b or p.poll() is not None)
        if process.poll() in (None, 0) or len(job.calls()) > before:
            return process
        assert process.poll() == 3 and SLOW_RAY in job.log()[said:], job.log()
    raise AssertionError(f"Ray didn't start {TRIES} times in a row; it said: {job.log()}")


def _kill(driver: Command, victim: str, chance: random.Random) -> None:
    """Kill one process: the driver, or one that Ray started for it."""
    found = [driver.pid]
    if victim in TITLES:
        names = {pid: title.split(" ")[0] for pid, title in descendants(driver.pid)}
        agents = {pid for pid, name in names.items() if name.startswith(AGENTS)}
        found = [pid for pid, name in names.items() if any(title in name for title in TITLES[victim])]
        found = [pid for pid in found if victim == "agent" or pid not in agents]
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(found), signal.SIGKILL)
