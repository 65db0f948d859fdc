"""How busy episodes keep the policy's engine while others score: the share of its places that are taken.

    python -m tests.benchmarks.saturation --episodes 500 --slots 64 --width 4

Generation and scoring take 50 ms each, give or take a half. The share is the mean from the first second until the last
episode is begun; the seconds of all are told beside what they'd take if no place were ever empty.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from cluster.runners.local import LocalRunner
from cluster.storage.delta import calls_folder, make_table
from cluster.storage.ranges import Ranges
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.snapshot import Snapshot
from cluster.working.engine_worker import EngineJob, EngineWorker
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.strategies.particles import Particles
from operators.strategies.scorers import Reward
from pipelines.graph import Pipeline
from schemas.datasets import Call, Problem, Sample
from schemas.engine import ScriptedSpec
from tests.support import QUICK, run, write_problems

TEXTS = ("one more step\n\n", "so it is so\n\n", "and then\n\n", "\\boxed{7}")
"""What the model says: a text has four steps on average."""
SECONDS = 0.05
LATENCY = {"latency": 0.5 * SECONDS, "jitter": SECONDS}


async def busy(folder: Path, episodes: int, slots: int, width: int) -> tuple[float, float, int]:
    """Return the mean share of places that were taken, the seconds that all took, and the policy's calls."""
    write_problems(folder / "problems.jsonl", episodes)
    pipeline = Pipeline("problems")
    pipeline.stage("load", Load(source=str(folder / "problems.jsonl")))
    [record] = run(LocalRunner(), pipeline, folder / "root", QUICK).manifest.stages
    root = Root.at(str(folder / "root"))
    problems = NumberedRows.of(Snapshot(root, "load", record.view_id, Problem))
    operator = Sampling(n=width, max_tokens=64, strategy=Particles(width=width, scorer=Reward()))
    specs = [ScriptedSpec(model=name, answers=TEXTS, slots=slots, **LATENCY) for name in ("policy", "scorer")]  # pyright: ignore
    job = EngineJob(
        "sample", operator, specs[0], root.url, "samples/saturation", "run", 10_000, 1.0, problems,
        roles={"scorer": specs[1]},
    )  # fmt: skip
    for folder_of, contract in (("samples/saturation", Sample), (calls_folder("samples/saturation"), Call)):
        make_table(root, folder_of, contract, {})  # as a run's driver does
    worker = EngineWorker(job)
    await worker.start()
    await worker.assign(Ranges.of(range(episodes), 0, 1))
    began, drawn = time.monotonic(), 0
    taken: list[float] = []
    drawing, turnstile = worker.drawing, worker.role.turnstile
    assert turnstile is not None
    while drawn < episodes:
        await asyncio.sleep(0.005)
        if time.monotonic() - began > 1.0 and drawing.waiting:
            taken.append(turnstile.inside / slots)
        drawn = worker.report.drawn
    seconds, calls = time.monotonic() - began, worker.role.activity().requests
    await worker.stop()
    return sum(taken) / max(1, len(taken)), seconds, calls


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--width", type=int, default=4)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        share, seconds, calls = asyncio.run(busy(Path(folder), told.episodes, told.slots, told.width))
    least = calls * SECONDS / told.slots
    print(f"places taken: {share:.1%}")
    print(f"{told.episodes} episodes, {calls:,} calls in {seconds:.2f} s; with every place taken {least:.2f} s")


if __name__ == "__main__":
    main()
