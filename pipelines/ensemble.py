"""Several models on the same problems, and one answer from all of them.

    models:
      - {name: small, engine: {kind: vllm, model: Qwen/Qwen3-8B}}
      - {name: large, engine: {kind: vllm, model: Qwen/Qwen3-32B}, sample: {n: 8}}

Every model samples into a store of its own. ``select`` is told which sample is whose (``models`` of the selection).
"""

from __future__ import annotations

from pydantic import Field, field_validator

from operators.base import AnyOperator, Operator
from operators.load import Load
from operators.measure.calibration import MeasureCalibration
from operators.measure.pass_at_k import PassAtK
from operators.sample.sampling import Sampling
from operators.select.abductive import SelectAbductive
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from operators.verify.math import VerifyMath
from pipelines.arms import Arm, sampling_of
from pipelines.graph import Pipeline, PipelineConfig, Stage
from schemas.errors import BadInput


class Config(PipelineConfig):
    """Every knob of the ensemble pipeline; ``load.source`` and ``models`` must be given."""

    load: Load = Load(source="")
    """The problems."""
    sample: Sampling = Sampling(n=16, max_tokens=512)
    """How all models are sampled."""
    models: tuple[Arm, ...] = Field(default=(Arm(name="first"), Arm(name="second", sample={"temperature": 0.3})))
    """Each with an engine, or with settings of ``sample`` that are its own."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    select: AnyOperator = SelectSeveral(methods=(SelectAbductive(), SelectTopTwo()))
    """select.abductive, select.top_two, or both in a select.several; their ``models`` are set here."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""
    calibration: AnyOperator = MeasureCalibration()
    """How far confidences can be believed."""

    @field_validator("models")
    @classmethod
    def _several(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len({model.name for model in value}) < max(2, len(value)):
            raise ValueError("there must be two models or more, each with a name of its own")
        return value


def build(config: Config) -> Pipeline:
    """Wire the stages: sample, verify and coverage of every model, and what is made of all of them."""
    pipeline = Pipeline("ensemble")
    problems = pipeline.stage("load", config.load)
    verdicts: dict[str, Stage] = {}
    for model in config.models:
        engine = model.engine or config.engine
        operator = sampling_of(config.sample, model, "ensemble")
        roles = operator.of_roles(config.engines)
        samples = pipeline.stage(f"sample_{model.name}", operator, engine=engine, engines=roles, problems=problems)
        stage = pipeline.stage(f"verify_{model.name}", config.verify, problems=problems, samples=samples)
        pipeline.stage(f"coverage_{model.name}", config.coverage, verdicts=stage)
        verdicts[f"verdicts_{model.name}"] = stage
    select = _told(config.select, tuple(model.name for model in config.models))
    answers = pipeline.stage("select", select, offered=verdicts)
    pipeline.stage("calibration", config.calibration, answers=answers)
    return pipeline


def _told(select: Operator, models: tuple[str, ...]) -> Operator:
    """Return a selection that knows the models by name."""
    if isinstance(select, SelectSeveral):
        return SelectSeveral(name=select.name, methods=tuple(_told(method, models) for method in select.methods))
    if "models" not in type(select).model_fields:
        raise BadInput(
            f"pipeline ensemble: {select.public_name()} can't tell models apart; choose select.abductive, "
            "select.top_two, or both in a select.several"
        )
    return type(select).model_validate({**dict(select), "models": models})
