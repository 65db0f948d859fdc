"""Multiple choice with and without reasoning: does a model that reasons first become surer, and rightly so?"""

from __future__ import annotations

from operators.base import AnyOperator
from operators.load import Load
from operators.measure.mcq_confidence import MeasureMcqConfidence
from operators.sample.sampling import Sampling
from operators.score.letters import ScoreLetters
from operators.verify.choice import VerifyChoice
from pipelines.graph import Pipeline, PipelineConfig, Stage

DIRECT = "{prompt}\n\nAnswer with the letter of the right option alone."
REASONED = "{prompt}\n\nThink step by step, in a few sentences. End with: The answer is (letter)."


class Config(PipelineConfig):
    """Every knob of the mcq pipeline; by default it asks forty questions that come with this package."""

    load: Load = Load(source="shipped:questions", columns={"choices": "objects"})
    """The questions."""
    direct: Sampling = Sampling(n=4, max_tokens=8, template=DIRECT)
    """How the letter is asked for at once."""
    reasoned: Sampling = Sampling(n=4, max_tokens=256, template=REASONED)
    """How the letter is asked for after reasoning."""
    verify: AnyOperator = VerifyChoice()
    """What reads the letter."""
    score: ScoreLetters = ScoreLetters()
    """How sure the model is of its letter."""
    measure: MeasureMcqConfidence = MeasureMcqConfidence(by="subject")
    """How far both confidences can be believed."""


def build(config: Config) -> Pipeline:
    """Wire the stages: sample, verify and score the letters of either arm, and what is made of both."""
    pipeline = Pipeline("mcq")
    problems = pipeline.stage("load", config.load)
    arms: dict[str, Stage] = {}
    for name, sampling in (("direct", config.direct), ("reasoned", config.reasoned)):
        samples = pipeline.stage(name, sampling, engine=config.engine, problems=problems)
        arms[name] = verdicts = pipeline.stage(f"verify_{name}", config.verify, problems=problems, samples=samples)
        arms[f"{name}_scores"] = pipeline.stage(
            f"score_{name}", config.score, engine=config.engine, problems=problems, samples=samples, verdicts=verdicts
        )
    pipeline.stage("measure", config.measure, offered={"problems": problems, **arms})
    return pipeline
