"""Knowledge conflicts: what a model remembers, what it is given to read against it, and what it says then.

Passages against what is remembered are written by the model and mostly false. Rows of such episodes are marked
counterfactual; ``gristmill export`` refuses them unless it is told.
"""

from __future__ import annotations

from operators.load import Load
from operators.measure.conflict import MeasureConflict
from operators.sample.collecting import CollectEpisodes
from operators.sample.sampling import Sampling
from operators.strategies.clash import Clash
from pipelines.graph import Pipeline, PipelineConfig


class Config(PipelineConfig):
    """Every knob of the conflict pipeline; by default it asks forty questions that come with this package."""

    load: Load = Load(source="shipped:questions")
    """Each with its answer, and ``objects`` in its metadata: what else could be asked for the like."""
    sample: Sampling = Sampling(n=1, max_tokens=256, strategy=Clash())
    """An episode elicits the memory, writes passages, and asks in every one of ``strategy.conditions``."""
    measure: MeasureConflict = MeasureConflict(by="known")


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("conflict")
    problems = pipeline.stage("load", config.load)
    answers = pipeline.stage("sample", config.sample, **config.asked, problems=problems)
    episodes = pipeline.stage("episodes", CollectEpisodes(), samples=answers)
    pipeline.stage("measure", config.measure, episodes=episodes, problems=problems)
    return pipeline
