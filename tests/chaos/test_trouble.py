"""A verifier that can't cope with some texts: only their rows are left out, until it has been healed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from cluster.records.reader import find_run
from tests.chaos.conftest import Figures
from tests.chaos.support import BOXED, FULL, SEED, Job, Key, Undisturbed, check_same

pytestmark = pytest.mark.chaos
WORD = "abracadabra"

ON_RAY = [  # slow: every death costs Ray a new worker
    pytest.param("die", "ray", "WorkerCrashedError", marks=pytest.mark.ray),
    pytest.param("hang", "ray", "", marks=pytest.mark.ray),
    pytest.param("raise", "ray", f"no idea what '{WORD}' means", marks=pytest.mark.ray),
][: None if FULL else 0]


@pytest.mark.parametrize(
    ("trouble", "runner", "reason"),
    [
        ("hang", "local", "didn't return in time"),
        ("raise", "local", f"no idea what '{WORD}' means"),
        *ON_RAY,
    ],
)
def test_a_verifier_gets_stuck(tmp_path: Path, figures: Figures, trouble: str, runner: str, reason: str) -> None:
    """Exactly the rows that it can't cope with are quarantined; once it is healed, the same command completes."""
    switch = tmp_path / "switch"
    switch.write_text(trouble)
    seconds, most = 3.0 if FULL else 2.0, 3 if FULL else 1
    if (trouble, runner) == (
        "hang",
        "ray",
    ):  # more than a new worker takes to start, and then one row is enough to find
        seconds, most = 10.0, 1
    seconds = seconds if trouble == "hang" else 60.0
    job, guilty = _job(tmp_path, switch, random.Random(f"{trouble} {SEED}"), seconds, most)
    assert job.finish(job.start(runner), seconds=400) == 3, job.log()
    manifest = find_run(job.place, "latest")
    assert manifest.state == "incomplete"
    written = job.place.read_bytes("runs", manifest.run_id, "quarantine.jsonl").decode().splitlines()
    quarantined = [json.loads(line) for line in written]
    assert sorted((row["problem_key"], row["sample_index"]) for row in quarantined) == sorted(guilty)
    assert all(reason in row["error"] for row in quarantined)
    check_same(job, quarantined=guilty)
    switch.unlink()
    assert job.finish(job.start(runner)) == 0, job.log()
    check_same(job)
    assert job.repeated() == 0
    figures |= {"quarantined": len(guilty), "of": len(job.calls()), "calls repeated": job.repeated()}


def _job(
    folder: Path, switch: Path, chance: random.Random, seconds: float, most: int = 3 if FULL else 1
) -> tuple[Job, set[Key]]:
    """Return a job in which ``most`` samples at most, and which, have the word; a task may take ``seconds``."""
    share = 0.01
    while True:
        job = Job(
            folder / "job",
            n=100 if FULL else 50,
            latency=0.02,
            answers=(*BOXED, f"\\boxed{{1}} {WORD} {{seed}}"),
            weights=(0.3, 0.3, 0.4 - share, share),
            sample={"seed": chance.randrange(1000)},
            verify={"operator": "tests.chaos.operators:TroubledVerify", "word": WORD, "switch": str(switch)},
            run={"task_seconds": seconds},
        )
        drawn = Undisturbed(job).rows("sample").filter(pl.col("completion").str.contains(WORD))
        if 1 <= len(drawn) <= most:
            return job, set(drawn.select("problem_key", "sample_index").iter_rows())
