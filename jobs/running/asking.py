"""What judging takes: tokens and dollars of the stages that ask an engine about samples, before anything is paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.engines import resolve
from cluster.planning.plan import RunPlan, StagePlan
from cluster.records.throughput import read_entry
from jobs.running.estimate import Estimate, lengths
from operators.asking import AskingOperator
from schemas.prices import MICRO, Prices, price_of


@dataclass(frozen=True)
class Asking:
    """What one stage that asks still takes at most.

    Attributes:
        samples: about so many it will ask.
        each: tokens of one sample.
        dollars: None: no price of tokens is known.
    """

    samples: int
    prompt_tokens: int
    completion_tokens: int
    tokens_from: str
    dollars: float | None

    @property
    def each(self) -> float:
        return (self.prompt_tokens + self.completion_tokens) / max(1, self.samples)


def asking(
    plan: RunPlan, estimates: Mapping[str, Estimate], table: Mapping[str, Prices] | None = None
) -> dict[str, Asking]:
    """Return stage -> what it takes, for the stages that ask an engine and aren't complete.

    Args:
        estimates: of the sampling stages that have something to draw.
        table: prices by model (``run.prices``).
    """
    return {
        name: found
        for name, stage in plan.stages.items()
        if isinstance(stage.stage.operator, AskingOperator)
        and stage.stage.engine is not None
        and stage.held < stage.planned
        and (found := _asking(plan, stage, estimates, table or {})) is not None
    }


def _asking(
    plan: RunPlan, stage: StagePlan, estimates: Mapping[str, Estimate], table: Mapping[str, Prices]
) -> Asking | None:
    operator, spec = stage.stage.operator, stage.stage.engine
    sampling = _sampling_above(plan, stage)
    if sampling is None or spec is None or not isinstance(operator, AskingOperator):
        return None
    engine = sampling.stage.engine
    assert engine is not None
    name, revision = resolve(engine)
    entry = read_entry(plan.root, engine, name, revision)
    prompt, completion, _, tokens_from = lengths(plan, sampling, entry)
    read, written = operator.most_tokens(round(prompt), round(completion))
    whole = stage.store is None  # it asks about whole problems, once all samples are there
    samples = sampling.planned if whole else stage.planned - stage.held
    model, _ = resolve(spec)
    prices = price_of(model, table)
    micro = None
    if prices is not None and prices.rates is not None:
        micro = prices.microdollars(samples * read, 0, samples * written, 0.0)
    return Asking(
        samples=samples,
        prompt_tokens=samples * read,
        completion_tokens=samples * written,
        tokens_from=f"at most, for samples of {prompt + completion:,.0f} tokens: {tokens_from}",
        dollars=None if micro is None else micro / MICRO,
    )


def _sampling_above(plan: RunPlan, stage: StagePlan) -> StagePlan | None:
    """Return the sampling stage whose samples a stage reads, itself or by way of others."""
    for upstream in stage.stage.inputs.values():
        above = plan.stages[upstream.name]
        found = above if above.stage.samples else _sampling_above(plan, above)
        if found is not None:
            return found
    return None
