"""Math problems of one's own (GSM8K- or MATH-like): sample, verify with math-verify, select, measure, synthesize."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.measure.selection import MeasureSelection
from operators.sample.sample import Sample
from operators.select.majority import MajorityVote
from operators.synthesize.sft import SynthesizeSft
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec

INSTRUCTION = "Solve the problem step by step. Put the final answer in \\boxed{}."


class Config(PipelineConfig):
    """Every knob of the math pipeline; ``load.source`` must be given."""

    load: Load = Load(source="problems.jsonl")
    sample: Sample = Sample(n=64, max_tokens=512, template="{prompt}\n\n" + INSTRUCTION)
    verify: AnyOperator = VerifyMath()
    judge: AnyEngineSpec | None = None
    """The engine of a verifier that asks one, such as verify.judge."""
    select: AnyOperator = MajorityVote()
    coverage: AnyOperator = PassAtK()
    accuracy: AnyOperator = MeasureSelection()
    sft: AnyOperator = SynthesizeSft()


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("math")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, engine=config.engine, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, engine=config.judge, problems=problems, samples=samples)
    pipeline.stage("select", config.select, verdicts=verdicts)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    pipeline.stage("accuracy", config.accuracy, verdicts=verdicts)
    pipeline.stage("sft", config.sft, problems=problems, samples=samples, verdicts=verdicts)
    return pipeline
