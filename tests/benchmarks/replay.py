"""Recorded samples through verification, pruning, selection, measuring and synthesis: samples a second, and memory.

    python -m tests.benchmarks.replay --problems 100 --samples 10000            # 1 million
    python -m tests.benchmarks.replay --problems 1000 --samples 10000 --json out.json

The samples (about 400 characters, 200 distinct answers a problem) are written straight into a store, as if a run had
paid for them before; what is measured is everything after sampling. ``--root`` may be an S3 URL.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cluster.driving.driver import run_pipeline
from cluster.planning.plan import make_plan
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from operators import operator_class
from operators.load import Load
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline
from schemas import datasets
from schemas.contract import polars_schema
from schemas.engine import ScriptedSpec
from schemas.identity import completion_hashes
from schemas.job import RunSettings
from tests.benchmarks.memory import PeakMemory

PART_ROWS = 20_000
WORDS = 57


def pipeline(source: Path, samples: int, verifier: str) -> Pipeline:
    """Return load -> sample -> verify -> prune, select, coverage, accuracy, sft."""
    made = Pipeline("replay")
    problems = made.stage("load", Load(source=str(source)))
    drawn = made.stage("sample", Sampling(n=samples), engine=ScriptedSpec(model="recorded"), problems=problems)
    verdicts = made.stage("verify", operator_class(verifier)(), problems=problems, samples=drawn)
    made.stage("prune", operator_class("prune.rpc")(), samples=drawn)
    made.stage("select", operator_class("select.majority")(), verdicts=verdicts)
    made.stage("coverage", operator_class("measure.pass_at_k")(), verdicts=verdicts)
    made.stage("accuracy", operator_class("measure.selection")(), verdicts=verdicts)
    made.stage("sft", operator_class("synthesize.sft")(), problems=problems, samples=drawn, verdicts=verdicts)
    return made


def write_problems(path: Path, count: int) -> Path:
    rows = ({"id": f"p{i}", "question": f"What is number {i}?", "answer": str(i % 7)} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(root: Root, made: Pipeline, commits: int) -> int:
    """Fill the sampling store in ``commits`` transactions (0: one a part); return the number of samples."""
    stage = make_plan(made, root).stages["sample"]
    assert stage.store is not None
    stage.store.acquire("recorded")
    rng = np.random.default_rng(7)
    vocabulary = np.array(["".join(chr(97 + c) for c in rng.integers(0, 26, 6)) for _ in range(5000)])
    texts = [" ".join(words) for words in vocabulary[rng.integers(0, 5000, (20_000, WORDS))]]
    size = min(PART_ROWS, -(-stage.planned // commits)) if commits else PART_ROWS
    group: list[Any] = []
    for key, first, count in stage.store.numbering.keyed(stage.view.ranges.split(size)).iter_rows():
        table = _samples(rng, texts, key, first, count)
        group.append(write_part(root, stage.folder, table, datasets.Sample, "sample"))
        if commits or len(group) == 8:
            stage.store.commit(group)
            group = []
    if group:
        stage.store.commit(group)
    stage.store.release()
    return stage.planned


def _samples(rng: np.random.Generator, texts: list[str], key: str, first: int, count: int) -> pl.DataFrame:
    # a third of the mass on the right answer's neighbours, the rest spread over 200 distinct ones
    answers = np.where(rng.random(count) < 0.6, rng.integers(0, 7, count), rng.integers(0, 200, count))
    chosen = rng.integers(0, len(texts), count)
    completions = [f"{texts[t]}\nThe answer is {a}." for t, a in zip(chosen, answers, strict=True)]
    logprobs = -rng.gamma(2.0, 0.2, count)
    columns: dict[str, Any] = {
        "problem_key": [key] * count,
        "sample_index": np.arange(first, first + count),
        "problem_id": ["p"] * count,
        "completion": completions,
        "completion_hash": completion_hashes(completions),
        "status": ["ok"] * count,
        "finish_reason": ["stop"] * count,
        "prompt_tokens": np.full(count, 12),
        "cached_prompt_tokens": np.zeros(count, dtype=np.int64),
        "completion_tokens": rng.integers(60, 120, count),
        "sum_logprob": logprobs * 80,
        "mean_logprob": logprobs,
        "seed": rng.integers(0, 2**31, count),
        "run_id": ["recorded"] * count,
    }
    schema = polars_schema(datasets.Sample)
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in schema.items() if name not in columns]
    return pl.DataFrame(columns).with_columns(missing).select(pl.col(n).cast(d) for n, d in schema.items())


def make_runner(name: str) -> Runner:
    if name == "local":
        return LocalRunner()
    from cluster.ray.runner import RayRunner

    return RayRunner()


def measure(root: Root, made: Pipeline, runner: Runner) -> dict[str, Any]:
    """Run everything after sampling once and return the figures."""
    began = time.perf_counter()
    make_plan(made, root)
    planned = time.perf_counter() - began
    with PeakMemory() as memory:
        began = time.perf_counter()
        result = run_pipeline(made, runner, root.url, RunSettings())
        seconds = time.perf_counter() - began
    samples = next(r.planned for r in result.manifest.stages if r.name == "sample")
    stages = {r.name: {"wall": r.seconds, "busy": r.busy_seconds} for r in result.manifest.stages if r.computed}
    return {
        "state": result.manifest.state,
        "samples": samples,
        "plan_seconds": planned,
        "seconds": seconds,
        "samples_per_second": samples / seconds,
        "stages": stages,
        "peak_mb": {name: size // 2**20 for name, size in sorted(memory.by_process.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000, help="per problem")
    parser.add_argument("--runner", choices=["local", "ray"], default="local")
    parser.add_argument("--verifier", default="verify.math")
    parser.add_argument("--commits", type=int, default=0, help="record the samples in about so many commits")
    parser.add_argument("--root", help="where to keep the data (default: a temporary folder)")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = write_problems(Path(scratch) / "problems.jsonl", options.problems)
        root = Root.at(options.root or Path(scratch) / "root")
        made = pipeline(source, options.samples, options.verifier)
        began = time.perf_counter()
        count = record(root, made, options.commits)
        print(f"recorded {count:,} samples in {time.perf_counter() - began:.1f} s")
        runner = make_runner(options.runner)
        try:
            figures = measure(root, made, runner)
        finally:
            runner.close()
    print(json.dumps(figures, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
