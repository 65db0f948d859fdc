"""Training data: verified samples of problems, as conversations and preference pairs, without duplicates or leaks.

Its sets are written out with ``gristmill export``.
"""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.overlap.decontaminate import SynthesizeDecontaminate
from operators.overlap.deduplicate import SynthesizeDeduplicate
from operators.sample.sampling import Sampling
from operators.synthesize.choose import SynthesizeChoose
from operators.synthesize.preference import SynthesizePreference
from operators.synthesize.sft import SynthesizeSft
from operators.synthesize.step_rewards import SynthesizeStepRewards
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec

INSTRUCTION = "Solve the problem step by step. Put the final answer in \\boxed{}."


class Config(PipelineConfig):
    """Every knob of the sft pipeline; ``load.source`` must be given."""

    load: Load = Load(source="")
    """The problems."""
    sample: Sampling = Sampling(n=64, max_tokens=512, template="{prompt}\n\n" + INSTRUCTION)
    """How the problems are sampled."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    score: AnyOperator | None = None
    """A reward model's scores: weights of the preference pairs; with score.process, also labels of the steps."""
    reward: AnyEngineSpec | None = None
    """The engine of ``score``."""
    choose: AnyOperator = SynthesizeChoose()
    """Which samples become training rows."""
    sft: AnyOperator = SynthesizeSft()
    """Which samples become training data."""
    transform: tuple[AnyOperator, ...] = ()
    """What becomes of the traces, one after the other: synthesize.concise, synthesize.drop_trace, ..."""
    transformer: AnyEngineSpec | None = None
    """The engine of those that ask one; by default the one that samples."""
    preference: AnyOperator = SynthesizePreference()
    """Which pairs become training data."""
    step_rewards: AnyOperator = SynthesizeStepRewards()
    """Which labelled steps become training data."""
    deduplicate: AnyOperator = SynthesizeDeduplicate()
    """What leaves near-duplicates out."""
    decontaminate: AnyOperator = SynthesizeDecontaminate()
    """``decontaminate.benchmarks`` names the files that must not be seen in training."""
    mix: AnyOperator | None = None
    """Quotas of kinds of tasks (synthesize.mix)."""
    roll_outs: AnyOperator | None = None
    """Prefixes of traces for the pipeline rollouts (synthesize.roll_outs)."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("sft")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    known = {"problems": problems, "samples": samples, "verdicts": verdicts}
    if config.score is not None:
        known["scores"] = pipeline.stage("score", config.score, engine=config.reward, offered=known)
    chosen = pipeline.stage("choose", config.choose, offered=known)
    traces = pipeline.stage("sft", config.sft, offered=known, paths=chosen)
    for number, operator in enumerate(config.transform, 1):
        asked = (config.transformer or config.engine) if "engine" in operator.tools else None
        offered = {**known, "sft": traces}
        traces = pipeline.stage(f"transform_{number}", operator, engine=asked, offered=offered)
    pipeline.stage("preference", config.preference, offered=known)
    pipeline.stage("step_rewards", config.step_rewards, offered=known)
    distinct = pipeline.stage("deduplicate", config.deduplicate, sft=traces)
    clean = pipeline.stage("decontaminate", config.decontaminate, sft=traces, paths=distinct)
    if config.mix is not None:
        pipeline.stage("mix", config.mix, offered={**known, "sft": traces, "paths": clean})
    if config.roll_outs is not None:
        pipeline.stage("roll_outs", config.roll_outs, offered=known)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    return pipeline
