"""``gristmill simulate``: what a policy would have reached, and for how much, on samples that are there already."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cluster.storage.tables import write_table
from jobs.config.settings import explain, run_settings
from jobs.simulate.abreast import replay_abreast, runs_abreast
from jobs.simulate.plot import save_plot
from jobs.simulate.recommend import print_recommendation, recommend
from jobs.simulate.records import Recorded, Unit, read_before, read_features, read_recorded
from jobs.simulate.replay import Question, Replayed, best_arms, replay_each
from operators.policies.named import SPECS, AnyPolicy, ComputeOptimalSpec, Goal, Informed, policy_spec
from schemas.errors import BadInput

POINTS = 400
"""Costs at which curves are read off, more of them where few samples were drawn."""
BAND = (0.05, 0.95)
"""Quantiles of the replays between which the band lies."""
YIELD_TARGET = 4
"""Useful traces of a problem, where nothing else is said."""
VALUE = {"coverage": "problems covered", "yield": "useful traces", "accuracy": "accuracy of the majority"}
COMPARED: dict[Goal, tuple[dict[str, Any], ...]] = {
    "coverage": ({"name": "until_correct"}, {"name": "greedy"}, {"name": "marginal"}),
    "yield": ({"name": "until_correct"}, {"name": "greedy"}, {"name": "marginal"}),
    "accuracy": (
        {"name": "consistency", "rule": "adaptive"},
        {"name": "consistency", "rule": "early_stopping"},
        {"name": "consistency", "rule": "bayesian"},
        {"name": "pets"},
    ),
}
"""What ``--compare`` runs beside uniform and the oracle."""


@dataclass(frozen=True)
class Ask:
    """The command's options."""

    source: str
    root: str
    policies: Sequence[str]
    settings: dict[str, Any]
    unit: Unit
    prices: str | None
    budget: float | None
    goal: Goal
    target: int | None
    model: str | None
    prior: str | None
    prior_model: str | None
    holdout: float
    features: str | None
    seeds: int
    in_flight: int | None
    compare: bool
    out: str | None
    plot: str | None
    reach: float | None = None
    """Recommend a policy and a budget for so much of the goal; None replays and shows curves."""


def simulate(ask: Ask, as_json: bool) -> dict[str, Any]:
    """Replay the policies, print or write what came of it, and return the JSON document.

    Raises:
        BadInput: no such record, policy or setting.
    """
    prices = run_settings({"prices": ask.prices}, None).prices if ask.prices else None
    recorded = read_recorded(ask.source, ask.root, ask.model, ask.unit, prices, ask.holdout)
    specs = _specs(ask)
    question = _question(ask, recorded, specs)
    console = Console(stderr=True)
    if ask.reach is not None:
        found = recommend(question, specs, ask.reach, ask.seeds)
        if as_json:
            print(json.dumps(found))
        else:
            print_recommendation(Console(), found)
        return found
    curves = _replay_all(question, specs, ask.seeds, console)
    table = pl.concat(_rows(name, question, replays) for name, replays in curves.items())
    if ask.out:
        write_table(table, ask.out)
    if ask.plot:
        save_plot(table, Path(ask.plot), (VALUE[ask.goal], ask.unit), len(recorded.problems), ask.seeds)
    document = _document(ask, question, curves, table)
    if as_json:
        print(json.dumps(document))
    else:
        _print(Console(), document, question)
    return document


def _specs(ask: Ask) -> dict[str, AnyPolicy | None]:
    """Return the policies by the names they are shown under, uniform and the oracle always among them."""
    wanted: list[dict[str, Any]] = [{"name": name, **ask.settings} for name in ask.policies]
    if ask.compare or ask.reach is not None or not wanted:
        wanted += COMPARED[ask.goal]
    specs: dict[str, AnyPolicy | None] = {"uniform": policy_spec({"name": "uniform"})}
    target = ask.target or (YIELD_TARGET if ask.goal == "yield" else 1)
    for settings in wanted:
        spec = _spec(settings)
        if "target" in type(spec).model_fields and "target" not in settings:
            spec = spec.model_copy(update={"target": target})
        if spec.votes != (ask.goal == "accuracy") and spec.name != "uniform":
            kind = "looks at answers" if spec.votes else "needs a verifier"
            raise BadInput(f"policy {spec.name} {kind}; it can't be asked for --goal {ask.goal}")
        if isinstance(spec, Informed) and (spec.before or spec.features or spec.nights):
            raise BadInput(f"policy {spec.name}: a simulation is told of problems by --prior and --features")
        if spec.uninformed and (ask.features or ask.prior) and spec.name in ask.policies:
            told = "--features" if ask.features else "--prior"
            raise BadInput(f"{told} would change nothing: {spec.name} {spec.uninformed}")
        rule = getattr(spec, "rule", None)
        specs[spec.name if rule is None else f"{spec.name}:{rule}"] = spec
    return {**specs, "oracle": None}


def _spec(settings: dict[str, Any]) -> AnyPolicy:
    try:
        return policy_spec(settings)
    except ValidationError as error:
        fields = SPECS[settings["name"]].model_fields
        raise BadInput(explain(error, f"policy {settings['name']}", fields)) from error


def _question(ask: Ask, recorded: Recorded, specs: dict[str, AnyPolicy | None]) -> Question:
    chooses = [spec for spec in specs.values() if isinstance(spec, ComputeOptimalSpec)]
    if len(recorded.arms) > 1 and not chooses:
        raise BadInput(
            f"'{ask.source}' has several models: choose one with --model, or let --policy compute_optimal choose "
            f"between them ({', '.join(recorded.arms)})"
        )
    if chooses and len(recorded.arms) != chooses[0].arms:
        raise BadInput(f"'{ask.source}' has {len(recorded.arms)} models: say --set arms={len(recorded.arms)}")
    if ask.goal == "accuracy" and recorded.samples is None:
        raise BadInput(f"--goal accuracy replays votes: '{ask.source}' must have the samples' answers, not only counts")
    problems = len(recorded.problems)
    charge = np.ones(recorded.n.shape) if recorded.cost is None else recorded.cost
    most = float((recorded.n * charge).sum())
    if not recorded.n.sum():
        raise BadInput(f"'{ask.source}' has no samples: n is 0 for all {len(recorded.n)} problems")
    if most <= 0.0:
        raise BadInput(
            f"'{ask.source}': no sample costs any {ask.unit}, so there is nothing to spend; say --unit samples"
        )
    budget = min(ask.budget or most, most)
    target = ask.target or (YIELD_TARGET if ask.goal == "yield" else 1)
    before, similar = (
        read_before(ask.prior, ask.root, ask.prior_model, recorded.problems, ask.holdout) if ask.prior else (None, None)
    )
    usual = 1 if ask.goal == "accuracy" else max(1, min(64, problems // 16))
    sample = most / max(1, int(recorded.n.sum()))  # what one costs
    few = np.geomspace(max(1, problems // 8) * sample, max(budget, 2 * sample), POINTS)
    few = np.unique(np.round(few)) if ask.unit == "samples" else few
    features = read_features(ask.features, recorded) if ask.features else None
    flight = ask.in_flight or usual
    return Question(recorded, ask.goal, target, ask.unit, budget, flight, before, similar, few, features)


def _replay_all(
    question: Question, specs: dict[str, AnyPolicy | None], seeds: int, console: Console
) -> dict[str, list[Replayed]]:
    single = question if len(question.recorded.arms) == 1 else replace(question, recorded=best_arms(question.recorded))
    every = list(range(seeds))
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool, Progress(console=console, transient=True) as bar:
        futures: dict[str, list[Future[list[Replayed]]]] = {}
        for name, spec in specs.items():
            asked = question if isinstance(spec, ComputeOptimalSpec) else single
            if runs_abreast(asked, spec):
                futures[name] = [pool.submit(replay_abreast, asked, spec, every)]
            else:
                futures[name] = [pool.submit(replay_each, asked, spec, [seed]) for seed in every]
        task = bar.add_task("replaying", total=sum(map(len, futures.values())))
        for future in chain.from_iterable(futures.values()):
            future.add_done_callback(lambda _: bar.advance(task))
        return {name: [one for future in some for one in future.result()] for name, some in futures.items()}


def _rows(name: str, question: Question, replays: list[Replayed]) -> pl.DataFrame:
    values = np.stack([replayed.values for replayed in replays])
    low, high = np.quantile(values, BAND, axis=0)
    return pl.DataFrame(
        {
            "policy": [name] * len(question.costs),
            "cost": question.costs,
            "value": values.mean(axis=0),
            "low": low,
            "high": high,
        }
    )


def _document(ask: Ask, question: Question, curves: dict[str, list[Replayed]], table: pl.DataFrame) -> dict[str, Any]:
    policies: dict[str, Any] = {}
    for name, replays in curves.items():
        rows = table.filter(pl.col("policy") == name)
        spent, final = ([getattr(one, field) for one in replays] for field in ("spent", "final"))
        policies[name] = {
            **{column: rows[column].to_list() for column in ("cost", "value", "low", "high")},
            "spent": _summary(spent),
            "final": _summary(final),
        }
    return {
        "goal": ask.goal,
        "target": question.target,
        "unit": question.unit,
        "budget": question.budget,
        "problems": len(question.recorded.problems),
        "seeds": ask.seeds,
        "band": list(BAND),
        "policies": policies,
    }


def _summary(values: list[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": spread, "values": values}


def _amount(value: float, unit: str) -> str:
    return f"{value:,.4g}" if unit == "dollars" and value < 100 else f"{value:,.0f}"


def cost_to_reach(costs: list[float], values: list[float], value: float) -> float | None:
    """Return the cost at which a curve reaches ``value``; None where it never does."""
    at = next((row for row, reached in enumerate(values) if reached >= value - 1e-9), None)
    if at is None:
        return None
    if at == 0:
        return costs[0]
    share = (value - values[at - 1]) / max(values[at] - values[at - 1], 1e-12)
    return costs[at - 1] + share * (costs[at] - costs[at - 1])


def _print(console: Console, document: dict[str, Any], question: Question) -> None:
    goal, policies = document["goal"], document["policies"]
    total = f" of {document['problems']:,}" if goal == "coverage" else ""
    console.print(
        f"{VALUE[goal]}{total}, {document['problems']:,} problems, {document['seeds']} replays, at most "
        f"{_amount(document['budget'], question.unit)} {question.unit}",
        highlight=False,
    )
    uniform = policies["uniform"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("policy", question.unit, "value", "5% to 95%", "uniform needs", "ratio"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, found in policies.items():
        value, spent = found["final"]["mean"], found["spent"]["mean"]
        low, high = np.quantile(found["final"]["values"], BAND)
        needs = cost_to_reach(uniform["cost"], uniform["value"], value) if name != "uniform" else None
        more = "" if name == "uniform" else "more"
        digits = 4 if goal == "accuracy" else 1
        table.add_row(
            name,
            _amount(spent, question.unit),
            f"{value:,.{digits}f}",
            f"{low:,.{digits}f}-{high:,.{digits}f}",
            more if needs is None else _amount(needs, question.unit),
            "" if needs is None else f"{needs / spent:.2f}",
        )
    console.print(table)
