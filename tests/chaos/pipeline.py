"""The pipeline of the chaos runs: ``gristmill run tests.chaos.pipeline``."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.select.majority import MajorityVote
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline, PipelineConfig
from tests.chaos.operators import MarkedSample


class Config(PipelineConfig):
    """Stores of both kinds, and a snapshot of each scope."""

    load: Load = Load(source="problems.jsonl")
    sample: MarkedSample = MarkedSample()
    verify: AnyOperator = VerifyExact()
    select: AnyOperator = MajorityVote()
    coverage: AnyOperator = PassAtK()


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("chaos")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, engine=config.engine, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    pipeline.stage("select", config.select, verdicts=verdicts)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    return pipeline
