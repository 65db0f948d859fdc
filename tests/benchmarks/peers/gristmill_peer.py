"""Gristmill, with its durability as it comes: the local runner, or Ray (already started)."""

from __future__ import annotations

from pathlib import Path

from cluster.driving.driver import run_pipeline
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from operators.load import Load
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline
from schemas.engine import OpenAISpec
from schemas.job import RunSettings
from tests.benchmarks.peers.common import arguments, prompts, timed


def main() -> None:
    options = arguments()
    out = Path(options.out)
    source = out / "problems.csv"
    source.write_text("id,prompt\n" + "".join(f"{i},{text}\n" for i, text in enumerate(prompts(options.problems))))
    pipeline = Pipeline("throughput")
    engine = OpenAISpec(url=options.url, model="stub", concurrency=options.concurrency)
    problems = pipeline.stage("load", Load(source=str(source)))
    pipeline.stage("sample", Sampling(n=options.samples, max_tokens=64), engine=engine, problems=problems)
    runner = _ray() if options.ray else LocalRunner()
    try:
        timed(lambda: run_pipeline(pipeline, runner, str(out / "root"), RunSettings()))
    finally:
        runner.close()


def _ray() -> Runner:
    import ray

    from cluster.ray.runner import RayRunner

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="gristmill")
    ray.get(ray.remote(num_cpus=1)(lambda: None).remote())
    return RayRunner()


if __name__ == "__main__":
    main()
