"""Process rewards from roll-outs (Math-Shepherd): what can still be reached from each step of a trace?

``load.source`` are the prefixes that ``synthesize.roll_outs`` made, as a stage of the sft pipeline or on its own.
"""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.transform.roll_outs import SynthesizeRollOutRewards
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig


class Config(PipelineConfig):
    """Every knob of the rollouts pipeline; ``load.source`` must be given."""

    load: Load = Load(source="", continue_last=True)
    """The beginnings from which samples go on (``synthesize.roll_outs``)."""
    sample: Sampling = Sampling(n=8, max_tokens=512)
    """Its template isn't used: a prefix brings its turns."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    step_rewards: AnyOperator = SynthesizeRollOutRewards()
    """How steps are labelled by them."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("rollouts")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    pipeline.stage("step_rewards", config.step_rewards, problems=problems, verdicts=verdicts)
    return pipeline
