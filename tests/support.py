"""What several tests need: small pipelines around the scripted engine, and plain files of problems."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from cluster.storage.ranges import KEYED
from cluster.storage.store import Store
from cluster.working.compaction import Merge
from operators.base import Operator
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.select.classes import classify, distinct_answers, one_verifier
from operators.select.majority import MajorityVote
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas import columns
from schemas.contract import Contract
from schemas.datasets import Answer, Verdict
from schemas.engine import ScriptedSpec
from schemas.job import RunSettings

QUICK = RunSettings(flush_seconds=0.2, commit_seconds=0.05)
"""Small groups, so that a short run has many parts and commits."""


class RowCount(Contract):
    """A contract of a user's own."""

    dataset = columns.String(primary_key=True)
    rows = columns.Int64(nullable=False)


class CountRows(Operator):
    """A dataset-scope operator of a user's own."""

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "verdicts": Verdict.select("problem_key", "is_correct"),
        "answers": Answer.select("problem_key", "is_correct"),
    }
    output = RowCount

    def run(self, verdicts: pl.LazyFrame, answers: pl.LazyFrame) -> pl.DataFrame:
        counts = [table.select(pl.len()).collect().item() for table in (verdicts, answers)]
        return pl.DataFrame({"dataset": ["verdicts", "answers"], "rows": counts})


BOTH = pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.ray)])
"""A test of both runners; ``make_runner`` makes the one that is named."""


def make_runner(name: str) -> Runner:
    """Return a runner of that name."""
    return LocalRunner() if name == "local" else ray_runner()


def ray_runner() -> Runner:
    """Return a runner on the cluster that tests share."""
    from cluster.ray.runner import RayRunner

    return RayRunner(_ray_cluster())


@cache
def _ray_cluster() -> str:
    """Start Ray, for all tests of this process that need none of their own; return its address. Its GPUs are words."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # or a process starts for each CPU, wanted or not
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 4, "include_dashboard": False})
    atexit.register(cluster.shutdown)
    return cluster.address


def write_problems(path: Path, count: int, first: int = 0) -> Path:
    """Write ``count`` addition problems as JSONL."""
    rows = [
        {"id": f"p{i}", "question": f"What is {i} + {i % 7}?", "answer": str(i % 3)}
        for i in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scripted_pipeline(source: Path, n: int, sampling: Sampling | None = None, **engine: object) -> Pipeline:
    """Return load -> sample -> verify -> select -> count on the scripted engine, which answers 0, 1 or 2."""
    spec = ScriptedSpec.model_validate({"answers": ("0", "1", "2"), **engine})
    operator = (sampling or Sampling()).model_copy(update={"n": n})
    pipeline = Pipeline("scripted")
    problems = pipeline.stage("load", Load(source=str(source)))
    samples = pipeline.stage("sample", operator, engine=spec, problems=problems)
    verdicts = pipeline.stage("verify", VerifyExact(), problems=problems, samples=samples)
    answers = pipeline.stage("select", MajorityVote(), verdicts=verdicts)
    pipeline.stage("count", CountRows(), verdicts=verdicts, answers=answers)
    return pipeline


def run(runner: Runner, pipeline: Pipeline, root: Path, settings: RunSettings = QUICK) -> RunResult:
    """Run and free the runner."""
    try:
        return run_pipeline(pipeline, runner, str(root), settings)
    finally:
        runner.close()


def stage(result: RunResult, name: str) -> dict[str, int]:
    """Return the counts of one stage."""
    record = next(record for record in result.manifest.stages if record.name == name)
    return {"planned": record.planned, "reused": record.reused, "computed": record.computed}


def facts(store: Store) -> set[tuple[str, int]]:
    """Return (problem_key, sample_index) of all samples that a store holds."""
    ranges = store.numbering.keyed(store.held.ranges).iter_rows()
    return {(key, index) for key, first, count in ranges for index in range(first, first + count)}


def keyed(*rows: tuple[str, int, int]) -> pl.DataFrame:
    """Return keyed ranges."""
    return pl.DataFrame(rows, schema=KEYED, orient="row")


def merge_of(store: Store, names: Sequence[str]) -> Merge:
    """Return the work of merging some files of a store."""
    rows = sum(store.files.of(name).total for name in names)
    return Merge(
        1,
        "merge",
        store.root.url,
        store.folder,
        store.contract,
        tuple(names),
        rows,
        sum(store.sizes[name] for name in names),
    )


def keys(result: RunResult, name: str = "sample") -> list[tuple[str, int]]:
    """Return the sorted (problem_key, sample_index) of a store stage."""
    return sorted(result.dataset(name).select("problem_key", "sample_index").collect().rows())


def answer_classes(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return the answers of one view with the class of each, as votes see them."""
    return classify(distinct_answers(one_verifier(verdicts)))
