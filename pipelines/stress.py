"""Stress by many problems at once (Pan et al. 2025, "REST"): what becomes of accuracy when one prompt asks several?"""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.stress import MeasureStress
from operators.sample.sampling import Sampling
from operators.transform.rest import SynthesizeRest
from operators.verify.rest import VerifyRest
from pipelines.graph import Pipeline, PipelineConfig


class Config(PipelineConfig):
    """Every knob of the stress pipeline; ``load.source`` must be given, and ``load.made.levels`` are the levels."""

    load: Load = Load(source="problems.jsonl", made=SynthesizeRest())
    sample: Sampling = Sampling(n=4, max_tokens=1024)
    verify: AnyOperator = VerifyRest()
    measure: MeasureStress = MeasureStress()


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("stress")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    pipeline.stage("measure", config.measure, verdicts=verdicts, samples=samples)
    return pipeline
