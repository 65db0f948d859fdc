"""Programs: sample, run them against their tests in a sandbox, measure, keep the right ones. HumanEval by default."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.sample.sampling import Sampling
from operators.synthesize.sft import SynthesizeSft
from operators.verify.code import VerifyCode
from pipelines.graph import Pipeline, PipelineConfig

INSTRUCTION = "Write Python. Give the whole program in one block of code.\n\n```python\n{prompt}\n```"


class Config(PipelineConfig):
    """Every knob of the code pipeline; other problems than HumanEval's by ``load.source``."""

    load: Load = Load(source="human_eval")
    """The problems."""
    sample: Sampling = Sampling(n=64, max_tokens=512, template=INSTRUCTION)
    """How the problems are sampled."""
    verify: AnyOperator = VerifyCode()
    """What judges the samples."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""
    sft: AnyOperator = SynthesizeSft()
    """Which samples become training data."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("code")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    pipeline.stage("sft", config.sft, problems=problems, samples=samples, verdicts=verdicts)
    return pipeline
