"""Strategies on the same problems, against plain sampling at an equal bill.

    arms:
      - {name: beam, sample: {strategy: {name: beam, scorer: certainty}}}
      - {name: cool, sample: {strategy: {name: best_of, width: 8, select: majority}, temperature: 0.3}}

Plain sampling is always among them: its votes (majority, rpc, best-of-N by ``score``) are what a search is compared
with, at the number of samples that its mean bill would have paid for (``measure.equal_bill``).
"""

from __future__ import annotations

from pydantic import Field, field_validator

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.episodes import MeasureEpisodes
from operators.measure.equal_bill import MeasureEqualBill
from operators.measure.pass_at_k import PassAtK
from operators.measure.plain_curve import MeasurePlainCurve
from operators.measure.selection import MeasureSelection
from operators.sample.collecting import CollectEpisodes
from operators.sample.sampling import Sampling
from operators.verify.math import VerifyMath
from pipelines.arms import Arm, sampling_of
from pipelines.graph import Pipeline, PipelineConfig, Stage
from schemas.engine import AnyEngineSpec
from schemas.errors import BadInput


class Config(PipelineConfig):
    """Every knob of the compare pipeline; ``load.source`` must be given."""

    load: Load = Load(source="problems.jsonl")
    sample: Sampling = Sampling(n=64, max_tokens=512)
    """Plain sampling; ``n`` must be as many as the dearest arm's mean bill pays for."""
    arms: tuple[Arm, ...] = Field(
        default=(
            Arm(name="beam", sample={"strategy": {"name": "beam", "width": 8, "scorer": "certainty"}}),
            Arm(name="particles", sample={"strategy": {"name": "particles", "width": 8, "scorer": "certainty"}}),
        ),
        min_length=1,
    )
    """Each with a strategy, and other settings of ``sample`` that are its own."""
    episodes: int = Field(default=2, ge=1)
    """How many episodes of each arm to play for each problem; more than one tells how much they differ by chance."""
    verify: AnyOperator = VerifyMath()
    score: AnyOperator | None = None
    """Scores the plain samples, for best-of-N (``score.process``, ``score.outcome``, ``score.likelihood``)."""
    reward: AnyEngineSpec | None = None
    """The engine of ``score``; by default the pipeline's."""
    selection: MeasureSelection = MeasureSelection()
    coverage: AnyOperator = PassAtK()
    compared: MeasureEqualBill = MeasureEqualBill()
    """``arms`` are set here; its ``prices`` give bills in dollars, of the curve too."""

    @field_validator("arms")
    @classmethod
    def _each_once(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len({arm.name for arm in value}) < len(value):
            raise ValueError("each arm must have a name of its own")
        return value


def build(config: Config) -> Pipeline:
    """Wire the stages: plain sampling and its votes; sample, verify and episodes of every arm; what is made of all."""
    pipeline = Pipeline("compare")
    problems = pipeline.stage("load", config.load)
    if config.sample.strategy is not None:
        raise BadInput("pipeline compare: sample.strategy belongs to an arm; plain sampling has none")
    samples = pipeline.stage("sample", config.sample, engine=config.engine, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    plain: dict[str, Stage] = {"samples": samples, "verdicts": verdicts}
    if config.score is not None:
        engine = (config.reward or config.engine) if "engine" in config.score.tools else None
        plain["scores"] = pipeline.stage("score", config.score, engine=engine, problems=problems, samples=samples)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    pipeline.stage("selection", config.selection, offered=plain)
    curve = MeasurePlainCurve(
        prices={role: price for role, price in config.compared.prices.items() if "/" not in role},
        subsets=config.compared.subsets, bootstrap=config.compared.bootstrap, seed=config.compared.seed,
    )  # fmt: skip
    pipeline.stage("curve", curve, offered=plain)
    told = dict(plain)
    for arm in config.arms:
        operator = sampling_of(config.sample, arm, "compare")
        if operator.strategy is None:
            raise BadInput(f"pipeline compare, '{arm.name}': an arm has a strategy; give its sample.strategy")
        operator = operator.model_copy(update={"n": config.episodes * operator.rows})
        drawn = pipeline.stage(
            f"sample_{arm.name}", operator, engine=arm.engine or config.engine,
            engines=operator.of_roles(config.engines), problems=problems,
        )  # fmt: skip
        judged = pipeline.stage(f"verify_{arm.name}", config.verify, problems=problems, samples=drawn)
        episodes = pipeline.stage(f"episodes_{arm.name}", CollectEpisodes(), samples=drawn)
        pipeline.stage(
            f"measure_{arm.name}", MeasureEpisodes(), episodes=episodes, verdicts=judged, samples=drawn
        )  # fmt: skip
        told |= {f"episodes_{arm.name}": episodes, f"verdicts_{arm.name}": judged}
    names = tuple(arm.name for arm in config.arms)
    pipeline.stage("compared", config.compared.model_copy(update={"arms": names}), offered=told)
    return pipeline
