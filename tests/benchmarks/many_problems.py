"""Many problems, few samples of each: what planning takes, and whether memory grows with problems while a run goes on.

    python -m tests.benchmarks.many_problems plan --problems 1000000 --samples 1000
    python -m tests.benchmarks.many_problems run --problems 5000,500000 --samples 2 --bytes 2000 --runner local
    python -m tests.benchmarks.many_problems plan --problems 1000000 --code OTHER_CHECKOUT     # in turn with this one

``plan`` is what ``gristmill plan`` does, start-up left out of the seconds and in the memory. ``run`` draws from the
scripted engine, verifies and selects. Each measurement is a process of its own; its peak is its resident set as the
kernel counts it, that of Ray's workers is sampled (PSS, object store left out).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]


def write_problems(path: Path, count: int, size: int) -> Path:
    """Write addition problems whose text has about so many bytes, as JSONL or Parquet, a few at a time."""
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in _rows(0, count, size))
        return path
    import polars as pl
    import pyarrow.parquet as pq

    step = max(1, min(50_000, 50_000_000 // max(1, size)))
    writer = None
    for first in range(0, count, step):
        table = pl.DataFrame(list(_rows(first, min(count, first + step), size))).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path


def _rows(first: int, end: int, size: int) -> Iterator[dict[str, str]]:
    words = "Consider what follows step by step and answer with one number only. "
    for number in range(first, end):
        text = f"What is {number} + {number % 7}? "
        padding = (words * (1 + size // len(words)))[: max(0, size - len(text))]
        yield {"id": f"p{number}", "question": text + padding, "answer": str(number % 3)}


def pipeline(source: Path, samples: int) -> Any:
    """Return load -> sample -> verify -> select."""
    from operators import operator_class
    from operators.load import Load
    from pipelines.graph import Pipeline
    from schemas.engine import ScriptedSpec

    made = Pipeline("many")
    problems = made.stage("load", Load(source=str(source)))
    operator = operator_class("sample")(n=samples)
    drawn = made.stage(
        "sample", operator, engine=ScriptedSpec(answers=("0", "1", "2"), slots=256, context=8192), problems=problems
    )
    verdicts = made.stage("verify", operator_class("verify.exact")(), problems=problems, samples=drawn)
    made.stage("select", operator_class("select.majority")(), verdicts=verdicts)
    return made


def plan(source: Path, samples: int, root: Path) -> dict[str, Any]:
    """Plan once, in this process."""
    from cluster.storage.root import Root
    from jobs.running.run import Job, show_plan
    from schemas.job import JobFile, RunSettings

    job = Job(pipeline(source, samples), Root.at(root), "local", None, RunSettings(), JobFile(pipeline="many"))
    before = _peak()
    began, used = time.perf_counter(), time.process_time()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    show_plan(job, True)
    sys.stdout = sys.__stdout__
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "cpu_seconds": used, "start_mb": before, "peak_mb": _peak()}


def run(source: Path, samples: int, root: Path, runner_name: str) -> dict[str, Any]:
    """Run once, in this process."""
    from cluster.driving.driver import run_pipeline
    from schemas.job import RunSettings
    from tests.benchmarks.memory import PeakMemory
    from tests.support import make_runner

    runner = make_runner(runner_name)
    with PeakMemory() as memory:
        began = time.perf_counter()
        try:
            result = run_pipeline(pipeline(source, samples), runner, str(root), RunSettings())
        finally:
            runner.close()
        seconds = time.perf_counter() - began
    drawn = sum(record.computed for record in result.manifest.stages if record.name == "sample")
    processes = {name: size // 2**20 for name, size in sorted(memory.by_process.items()) if size > 2**27}
    return {
        "state": result.manifest.state,
        "samples": drawn,
        "seconds": seconds,
        "samples_per_second": drawn / seconds,
        "peak_mb": _peak(),
        "processes_mb": processes,
        "again": _again(source, samples, root, runner_name),
    }


def _again(source: Path, samples: int, root: Path, runner_name: str) -> float:
    """Return how many seconds the same run takes that finds everything there."""
    from cluster.driving.driver import run_pipeline
    from schemas.job import RunSettings
    from tests.support import make_runner

    runner = make_runner(runner_name)
    began = time.perf_counter()
    try:
        run_pipeline(pipeline(source, samples), runner, str(root), RunSettings())
    finally:
        runner.close()
    return time.perf_counter() - began


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(options: argparse.Namespace, code: Path, problems: int, source: Path) -> dict[str, Any]:
    """Measure in a process of its own that imports the code of one checkout."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [options.what, "--inside", str(source), "--samples", str(options.samples), "--runner", options.runner]
        environment = {**os.environ, "PYTHONPATH": f"{code}{os.pathsep}{HERE}", "POLARS_MAX_THREADS": "2"}
        command = [sys.executable, "-P", __file__, *words, "--root", f"{scratch}/root"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"code": str(code), "problems": problems, "error": done.stderr.strip().splitlines()[-3:]}
    return {"code": str(code), "problems": problems, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "run"])
    parser.add_argument("--problems", default="1000000", help="how many; several with commas between")
    parser.add_argument("--samples", type=int, default=1000, help="per problem")
    parser.add_argument("--bytes", type=int, default=40, help="of each problem's text")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl")
    parser.add_argument("--runner", choices=["local", "ray"], default="local")
    parser.add_argument("--code", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        if options.what == "plan":
            figures = plan(options.inside, options.samples, options.root)
        else:
            figures = run(options.inside, options.samples, options.root, options.runner)
        print(json.dumps(figures))
        return
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for problems in map(int, options.problems.split(",")):
            source = write_problems(Path(scratch) / f"{problems}.{options.format}", problems, options.bytes)
            for code in [HERE] + ([options.code.resolve()] if options.code else []):
                found.append(measure(options, code, problems, source))
                print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
