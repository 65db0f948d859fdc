"""Math problems of one's own (GSM8K- or MATH-like): sample, verify with math-verify, select, measure, synthesize."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.calibration import MeasureCalibration
from operators.measure.forecast import MeasureForecast
from operators.measure.pass_at_k import PassAtK
from operators.measure.selection import MeasureSelection
from operators.sample.sampling import Sampling
from operators.select.majority import MajorityVote
from operators.select.perplexity import Perplexity, PerplexityConsistency, Rpc
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from operators.synthesize.sft import SynthesizeSft
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec

INSTRUCTION = "Solve the problem step by step. Put the final answer in \\boxed{}."


class Config(PipelineConfig):
    """Every knob of the math pipeline; ``load.source`` must be given."""

    load: Load = Load(source="")
    """The problems."""
    sample: Sampling = Sampling(n=64, max_tokens=512, template="{prompt}\n\n" + INSTRUCTION)
    """How the problems are sampled."""
    verify: AnyOperator = VerifyMath()
    """What judges the samples."""
    judge: AnyEngineSpec | None = None
    """The engine of what asks one: a verifier such as verify.judge, a selection such as select.chops."""
    score: AnyOperator | None = None
    """A reward model's or a judge's scores, such as score.process, for selections that weigh by them."""
    reward: AnyEngineSpec | None = None
    """The engine of ``score``."""
    prune: AnyOperator | None = None
    """Paths to vote with, such as prune.confidence's; select.rpc prunes by itself."""
    select: AnyOperator = SelectSeveral(
        methods=(MajorityVote(), Perplexity(), PerplexityConsistency(), Rpc(), SelectTopTwo())
    )
    """What picks an answer for each problem."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""
    accuracy: AnyOperator = MeasureSelection()
    """How the accuracy of selections is measured."""
    calibration: AnyOperator = MeasureCalibration()
    """How far confidences can be believed."""
    forecast: AnyOperator = MeasureForecast()
    """The coverage of more samples than there are."""
    sft: AnyOperator = SynthesizeSft()
    """Which samples become training data."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("math")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    judge = config.judge if "engine" in config.verify.tools else None
    verdicts = pipeline.stage("verify", config.verify, engine=judge, problems=problems, samples=samples)
    known = {"problems": problems, "samples": samples, "verdicts": verdicts}
    if config.score is not None:
        known["scores"] = pipeline.stage("score", config.score, engine=config.reward, offered=known)
    if config.prune is not None:
        known["paths"] = pipeline.stage("prune", config.prune, samples=samples)
    judge = config.judge if "engine" in config.select.tools else None
    answers = pipeline.stage("select", config.select, engine=judge, offered=known)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    pipeline.stage("accuracy", config.accuracy, offered=known)
    pipeline.stage("calibration", config.calibration, answers=answers)
    pipeline.stage("forecast", config.forecast, verdicts=verdicts)
    pipeline.stage("sft", config.sft, problems=problems, samples=samples, verdicts=verdicts)
    return pipeline
