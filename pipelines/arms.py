"""Several sampling configurations of the same problems, and a policy that chooses between them by difficulty.

    arms:
      - {name: cool, sample: {temperature: 0.3}}
      - {name: hot, sample: {temperature: 1.0, template: "{prompt}\\n\\nThink of an unusual way first."}}

Every arm samples into a store of its own: ``sample`` has what it does otherwise, ``engine`` its own engine. An arm may
be a strategy (``{strategy: {name: beam, width: 8}}``): its draws are episodes, and weigh what their calls took.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, field_validator

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.policies.named import ComputeOptimalSpec
from operators.sample.sampling import Sampling
from operators.synthesize.sft import SynthesizeSft
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec
from schemas.errors import BadInput
from schemas.settings import Settings


class Arm(Settings):
    """One sampling configuration."""

    name: str = Field(pattern=r"^\w+$")
    """Its stage is called ``sample_NAME``."""
    sample: dict[str, Any] = {}
    """Settings of ``sample`` that are otherwise here."""
    engine: AnyEngineSpec | None = None
    """By default the pipeline's."""


class Config(PipelineConfig):
    """Every knob of the arms pipeline; ``load.source`` must be given."""

    load: Load = Load(source="")
    """The problems."""
    sample: Sampling = Sampling(n=64, max_tokens=512)
    """What all arms have in common; ``n`` counts draws: samples, or episodes of a strategy."""
    arms: tuple[Arm, ...] = (
        Arm(name="cool", sample={"temperature": 0.3}),
        Arm(name="hot", sample={"temperature": 1.0}),
    )
    """The sampling configurations among which the policy chooses."""
    calibration: int = Field(default=16, ge=1)
    """Draws of every arm that each problem gets before one is chosen."""
    target: int = Field(default=1, ge=1)
    """Accepted samples after which a problem gets no more."""
    before: str | tuple[str, ...] | None = None
    """Counts of the same problems by something similar: a table, or a run; as of ``sample.policy``."""
    features: str | None = None
    """What is known of how hard the problems are, beside the calibration; as of ``sample.policy``."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""
    sft: AnyOperator = SynthesizeSft()
    """Which samples become training data."""

    @field_validator("arms")
    @classmethod
    def _several(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len({arm.name for arm in value}) < max(2, len(value)):
            raise ValueError("there must be two arms or more, each with a name of its own")
        return value


def build(config: Config) -> Pipeline:
    """Wire the stages: sample, verify, coverage and sft of every arm."""
    policy = ComputeOptimalSpec(
        arms=len(config.arms),
        calibration=config.calibration,
        target=config.target,
        before=config.before,
        features=config.features,
    )
    pipeline = Pipeline("arms")
    problems = pipeline.stage("load", config.load)
    for arm in config.arms:
        engine = arm.engine or config.engine
        operator = sampling_of(config.sample, arm, "arms", policy=policy)
        operator = operator.model_copy(update={"n": operator.n * operator.rows})
        roles = operator.of_roles(config.engines)
        samples = pipeline.stage(f"sample_{arm.name}", operator, engine=engine, engines=roles, problems=problems)
        verdicts = pipeline.stage(f"verify_{arm.name}", config.verify, problems=problems, samples=samples)
        pipeline.stage(f"coverage_{arm.name}", config.coverage, verdicts=verdicts)
        pipeline.stage(f"sft_{arm.name}", config.sft, problems=problems, samples=samples, verdicts=verdicts)
    return pipeline


def sampling_of(sample: Sampling, arm: Arm, pipeline: str, **settings: Any) -> Sampling:
    """Return a sampling stage's operator with an arm's own settings, and others that are fixed.

    Raises:
        BadInput: naming the setting that doesn't fit.
    """
    try:
        return Sampling.model_validate({**dict(sample), **arm.sample, **settings})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BadInput(f"pipeline {pipeline}, '{arm.name}': {told}") from error
