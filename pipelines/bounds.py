"""Bounds of inference-time scaling: what n samples are worth at best, at worst, on average and by a vote
(Balachandran et al. 2025)."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.bounds import MeasureBounds
from operators.sample.sampling import Sampling
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig


class Config(PipelineConfig):
    """Every knob of the bounds pipeline; ``load.source`` must be given."""

    load: Load = Load(source="problems.jsonl")
    """The problems."""
    sample: Sampling = Sampling(n=16, max_tokens=512)
    """How the problems are sampled."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    measure: MeasureBounds = MeasureBounds()
    """The bounds."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("bounds")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    pipeline.stage("measure", config.measure, verdicts=verdicts, samples=samples)
    return pipeline
