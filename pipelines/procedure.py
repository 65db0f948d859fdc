"""Procedures (ProcBench: Fujisawa et al. 2024): accuracy by the number of steps, in one call and one step a call."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.by_steps import MeasureBySteps
from operators.measure.paired import MeasurePaired
from operators.sample.sampling import Sampling
from operators.strategies.stepwise import Stepwise
from operators.verify.procedure import VerifyProcedure
from pipelines.graph import Pipeline, PipelineConfig, Stage


class Config(PipelineConfig):
    """Every knob of the procedure pipeline; by default it asks procedures that come with this package."""

    load: Load = Load(source="shipped:procedures")
    whole: Sampling = Sampling(n=4, max_tokens=512)
    """One call."""
    stepwise: Sampling = Sampling(n=4, max_tokens=512, strategy=Stepwise())
    """One step a call."""
    verify: AnyOperator = VerifyProcedure()
    measure: MeasureBySteps = MeasureBySteps()
    compared: MeasurePaired = MeasurePaired()
    """One step a call against one call, by whole sequences."""


def build(config: Config) -> Pipeline:
    """Wire the stages: sample, verify and measure of either, and both side by side."""
    pipeline = Pipeline("procedure")
    problems = pipeline.stage("load", config.load)
    samples: dict[str, Stage] = {}
    judged: dict[str, Stage] = {}
    for name, sampling in (("whole", config.whole), ("stepwise", config.stepwise)):
        samples[name] = pipeline.stage(
            name, sampling, engine=config.engine, engines=sampling.of_roles(config.engines), problems=problems
        )
        judged[name] = pipeline.stage(f"verify_{name}", config.verify, problems=problems, samples=samples[name])
        pipeline.stage(f"measure_{name}", config.measure, problems=problems, verdicts=judged[name])
    pipeline.stage(
        "compared", config.compared, first=judged["whole"], second=judged["stepwise"],
        first_samples=samples["whole"], second_samples=samples["stepwise"], problems=problems,
    )  # fmt: skip
    return pipeline
