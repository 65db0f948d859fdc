"""A debate with private bets: how sure are both sides of winning, and can that be right?

    engines: {opponent: {...}, judge: {...}}

Without ``engines.opponent`` a model debates against itself.
"""

from __future__ import annotations

from operators.load import Load
from operators.measure.bets import MeasureBets
from operators.sample.bets import CollectBets
from operators.sample.sampling import Sampling
from operators.strategies.bets import Bets
from pipelines.graph import Pipeline, PipelineConfig


class Config(PipelineConfig):
    """Every knob of the bets pipeline; by default motions are debated that come with this package."""

    load: Load = Load(source="shipped:motions")
    debate: Sampling = Sampling(n=6, max_tokens=256, strategy=Bets(judges=0))
    """``strategy.mode``: plain, informed, public or redteam; with ``judges`` somebody says who won."""
    bets: CollectBets = CollectBets()
    measure: MeasureBets = MeasureBets()


def build(config: Config) -> Pipeline:
    """Wire the stages."""
    pipeline = Pipeline("bets")
    problems = pipeline.stage("load", config.load)
    speeches = pipeline.stage("debate", config.debate, **config.asked, problems=problems)
    bets = pipeline.stage("bets", config.bets, samples=speeches)
    pipeline.stage("measure", config.measure, bets=bets)
    return pipeline
