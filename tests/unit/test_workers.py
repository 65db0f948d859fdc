"""Killable workers: a call that hangs or dies costs itself alone, and nothing outlives the owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.tools.processes import ProcessWorkers
from operators.workers import TimedOut, WorkerFailed


def double(value: int) -> int:
    return 2 * value


def misbehave(how: str) -> str:
    if how == "hang":
        time.sleep(600)
    if how == "raise":
        raise ValueError("no such thing")
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(2, preload=("cluster.tools.background",)) as pool:
        yield pool


def test_results_come_in_order(workers: ProcessWorkers) -> None:
    assert workers.map(double, [(i,) for i in range(5000)], seconds=10) == [2 * i for i in range(5000)]
    assert workers.map(double, [], seconds=10) == []


def test_a_guilty_call_costs_itself_alone(workers: ProcessWorkers) -> None:
    calls = ["fine"] * 200
    calls[20], calls[90], calls[91], calls[150] = "hang", "raise", "exit", "die"
    began = time.monotonic()
    results = workers.map(misbehave, [(how,) for how in calls], seconds=3.0)
    assert time.monotonic() - began < 300
    assert isinstance(results[20], TimedOut)
    assert isinstance(results[90], WorkerFailed)
    assert "ValueError: no such thing" in results[90].message
    assert isinstance(results[91], WorkerFailed)
    assert isinstance(results[150], WorkerFailed)
    assert [result for result in results if isinstance(result, str)] == ["fine"] * 196


OWNER = """
import sys
sys.path[:0] = [{here!r}]
from cluster.tools.processes import ProcessWorkers
from tests.unit.hanging import hang
if __name__ == "__main__":
    ProcessWorkers(2, preload=("cluster.tools.background",)).map(hang, [({marks!r}, n) for n in range(2)], 600)
"""


def test_workers_end_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    here = str(Path(__file__).parents[2])
    script = tmp_path / "owner.py"
    script.write_text(OWNER.format(here=here, marks=str(tmp_path)))
    owner = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": here})
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(mark.stem) for mark in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 120
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
