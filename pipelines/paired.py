"""Direct answers against step-by-step ones, on the same problems, the largest loss first
(Liu et al. 2024, "Mind Your Step (by Step)")."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.paired import MeasurePaired
from operators.sample.sampling import Sampling
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec

DIRECT = "{prompt}\n\nGive the final answer alone, in \\boxed{}, without any reasoning."
REASONED = "{prompt}\n\nThink step by step. Put the final answer in \\boxed{}."


class Config(PipelineConfig):
    """Every knob of the paired pipeline; ``load.source`` must be given."""

    load: Load = Load(source="problems.jsonl")
    direct: Sampling = Sampling(n=8, max_tokens=64, template=DIRECT)
    reasoned: Sampling = Sampling(n=8, max_tokens=512, template=REASONED)
    other: AnyEngineSpec | None = None
    """The engine of ``reasoned``, to compare two models; by default the pipeline's."""
    verify: AnyOperator = VerifyMath()
    measure: MeasurePaired = MeasurePaired()
    """What a task is: ``measure.by``, a field of the problems' metadata, or ``task_type``."""


def build(config: Config) -> Pipeline:
    """Wire the stages: sample and verify of either, and what is made of both."""
    pipeline = Pipeline("paired")
    problems = pipeline.stage("load", config.load)
    first = pipeline.stage("direct", config.direct, engine=config.engine, problems=problems)
    second = pipeline.stage("reasoned", config.reasoned, engine=config.other or config.engine, problems=problems)
    judged = pipeline.stage("verify_direct", config.verify, problems=problems, samples=first)
    other = pipeline.stage("verify_reasoned", config.verify, problems=problems, samples=second)
    pipeline.stage(
        "measure", config.measure, first=judged, second=other, first_samples=first, second_samples=second,
        problems=problems,
    )  # fmt: skip
    return pipeline
