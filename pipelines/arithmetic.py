"""The demo: generated arithmetic, sampled from the embedded model, verified by reasoning_gym's own scorer."""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.calibration import MeasureCalibration
from operators.measure.forecast import MeasureForecast
from operators.measure.pass_at_k import PassAtK
from operators.measure.selection import MeasureSelection
from operators.sample.sampling import Example, Sampling
from operators.select.majority import MajorityVote
from operators.select.perplexity import Perplexity, PerplexityConsistency, Rpc
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from operators.synthesize.preference import SynthesizePreference
from operators.synthesize.sft import SynthesizeSft
from operators.synthesize.step_rewards import SynthesizeStepRewards
from operators.verify.reasoning_gym import VerifyReasoningGym
from pipelines.graph import Pipeline, PipelineConfig
from schemas.engine import AnyEngineSpec, LlamaCppSpec

ASK = "State the final answer to the following arithmetic problem: {} ="
EXAMPLES = (("6 + 7", " 13"), ("45 - 12", " 33"), ("38 + 25", " 63"), ("9 - 4", " 5"))


class Config(PipelineConfig):
    """Every knob of the arithmetic pipeline."""

    engine: AnyEngineSpec = LlamaCppSpec(slots=8, context=512)
    """What samples; by default the embedded model."""
    load: Load = Load(
        source="reasoning_gym:chain_sum",
        size=24,
        config={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    )
    """The problems."""
    sample: Sampling = Sampling(
        n=32,
        max_tokens=8,
        stop=("\n",),
        chat=False,
        separator="\n",
        few_shot=tuple(Example(prompt=ASK.format(sum_), completion=answer) for sum_, answer in EXAMPLES),
    )
    """How the problems are sampled."""
    verify: AnyOperator = VerifyReasoningGym()
    """What judges the samples."""
    select: AnyOperator = SelectSeveral(
        methods=(MajorityVote(), Perplexity(), PerplexityConsistency(), Rpc(), SelectTopTwo())
    )
    """What picks an answer for each problem."""
    coverage: AnyOperator = PassAtK()
    """How coverage is measured."""
    accuracy: AnyOperator = MeasureSelection(methods=(MajorityVote(), PerplexityConsistency(), Rpc()))
    """How the accuracy of selections is measured."""
    calibration: AnyOperator = MeasureCalibration()
    """How far confidences can be believed."""
    forecast: AnyOperator = MeasureForecast()
    """The coverage of more samples than there are."""
    sft: AnyOperator = SynthesizeSft()
    """Which samples become training data."""
    preference: AnyOperator = SynthesizePreference()
    """Which pairs become training data."""
    step_rewards: AnyOperator = SynthesizeStepRewards()
    """Which labelled steps become training data."""


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("arithmetic")
    problems = pipeline.stage("load", config.load)
    samples = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    verdicts = pipeline.stage("verify", config.verify, problems=problems, samples=samples)
    known = {"problems": problems, "samples": samples, "verdicts": verdicts}
    answers = pipeline.stage("select", config.select, offered=known)
    pipeline.stage("coverage", config.coverage, verdicts=verdicts)
    pipeline.stage("accuracy", config.accuracy, offered=known)
    pipeline.stage("calibration", config.calibration, answers=answers)
    pipeline.stage("forecast", config.forecast, verdicts=verdicts)
    pipeline.stage("sft", config.sft, offered=known)
    pipeline.stage("preference", config.preference, offered=known)
    pipeline.stage("step_rewards", config.step_rewards, offered=known)
    return pipeline
