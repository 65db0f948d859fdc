"""``gristmill simulate --recommend``: which policy, prior and budget for a goal, and what the alternatives would cost.

What is recorded is replayed. Where it doesn't go far enough (a pilot, or a goal that it doesn't reach), problems are
sampled on from what it says of them: success rates are drawn from their posterior given all counts, a beta distribution
with a mass at 0 (``operators.measure.tail``), anew for every replay: what a pilot doesn't know is in the spread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jobs.simulate.abreast import replay_abreast, runs_abreast
from jobs.simulate.records import Recorded
from jobs.simulate.replay import Question, Replayed, replay_each
from operators.measure.tail import fit_all, never
from operators.policies.named import AnyPolicy, Informed
from operators.policies.policy import Ints
from schemas.errors import BadInput

SURE = 0.9
"""The budget that is recommended was enough in this share of replays."""
FURTHER = 50
"""A pilot's problems may get so many times the samples that they got."""
MOST = 10_000
"""Samples of a problem beyond which nothing is foretold."""


def recommend(question: Question, specs: Mapping[str, AnyPolicy | None], reach: float, seeds: int) -> dict[str, Any]:
    """Return what each policy and prior needs to reach the goal, the cheapest first.

    Args:
        question: with all that is known beforehand; each policy is also asked without it.
        specs: policies by the names they are shown under.
        reach: problems covered or useful traces as a share of all there could be; or the majority's accuracy.

    Raises:
        BadInput: answers would have to be foretold, or nothing reaches the goal.
    """
    goal = reach * _whole(question)
    further = not _reached(question, goal)
    if further and question.goal == "accuracy":
        raise BadInput(
            f"--reach {reach:g}: the record's majorities don't get there, and answers can't be foretold as success "
            "rates can; ask for less, or record more samples"
        )
    rows: list[dict[str, Any]] = []
    for name, spec in specs.items():
        for prior, asked in _priors(question, spec).items():
            costs = np.array([_cost(asked, spec, goal, seed, further) for seed in range(seeds)])
            enough = np.isfinite(costs)
            budget = float(np.quantile(np.where(enough, costs, np.inf), SURE, method="higher"))
            rows.append(
                {
                    "policy": name,
                    "prior": prior,
                    "reached": float(enough.mean()),
                    "mean": float(costs[enough].mean()) if enough.any() else None,
                    "budget": budget if np.isfinite(budget) else None,
                }
            )
    rows.sort(key=lambda row: (row["budget"] is None, row["budget"] or 0.0, row["policy"] == "greedy", row["policy"]))
    best = next((row for row in rows if row["budget"] is not None and row["policy"] != "oracle"), None)
    document = {"goal": question.goal, "reach": reach, "unit": question.unit, "seeds": seeds, "foretold": further}
    return {**document, "sure": SURE, "alternatives": rows, "recommended": best}


def _whole(question: Question) -> float:
    problems = len(question.recorded.problems)
    return {"coverage": problems, "yield": problems * question.target, "accuracy": 1}[question.goal]


def _reached(question: Question, goal: float) -> bool:
    """Whether all that is recorded reaches a goal."""
    if question.goal == "accuracy":
        return replay_each(question, None, [0])[0].final >= goal - 1e-9
    return float(np.minimum(question.recorded.c.sum(axis=1), question.target).sum()) >= goal - 1e-9


def _priors(question: Question, spec: AnyPolicy | None) -> dict[str, Question]:
    """Return what a policy may be told beforehand, by name."""
    nothing = replace(question, before=None, similar=None, features=None)
    found = {"": nothing}
    if not isinstance(spec, Informed):
        return found
    if question.before is not None:
        found["counts"] = replace(question, features=None)
    if question.features is not None:
        found["features"] = replace(nothing, features=question.features)
    if question.before is not None and question.features is not None:
        found["counts and features"] = question
    return found


def _cost(question: Question, spec: AnyPolicy | None, goal: float, seed: int, further: bool) -> float:
    """Return what one replay spends until the goal is reached; infinite where it never is."""
    asked = foretold(question, seed) if further else question
    replayed = _one(asked, spec, seed)
    at = np.flatnonzero(replayed.values >= goal - 1e-9)
    if not len(at):
        return float("inf")
    place = int(at[0])
    if place == 0:
        return float(asked.costs[0])
    before, after = replayed.values[place - 1], replayed.values[place]
    share = (goal - before) / max(after - before, 1e-12)
    return float(asked.costs[place - 1] + share * (asked.costs[place] - asked.costs[place - 1]))


def _one(question: Question, spec: AnyPolicy | None, seed: int) -> Replayed:
    return (replay_abreast if runs_abreast(question, spec) else replay_each)(question, spec, [seed])[0]


def foretold(question: Question, seed: int) -> Question:
    """Return the same question about a record that goes on: rates drawn from their posterior, and counts from these."""
    recorded = question.recorded
    if recorded.n.shape[1] > 1:
        raise BadInput("--recommend foretells one sampling configuration: choose one with --model")
    n, c = recorded.n[:, 0], recorded.c[:, 0]
    rng = np.random.default_rng([seed, 7])
    theta = fit_all(n, c).draw(1, rng)
    rates = rng.beta(theta[0][0] + c, theta[1][0] + n - c)
    rates[rng.random(len(n)) < never(theta, n, c)[0]] = 0.0
    more: Ints = np.minimum(np.maximum(n * FURTHER, n), MOST).astype(np.int64)
    counts = rng.binomial(more, rates)
    longer = Recorded(recorded.problems, recorded.arms, more[:, None], counts[:, None], cost=recorded.cost)
    most = float((longer.n * question.charge).sum())
    costs = np.geomspace(question.costs[0], max(most, question.costs[0] * 2), 4 * len(question.costs))
    return replace(question, recorded=longer, budget=most, costs=costs)


def print_recommendation(console: Console, document: Mapping[str, Any]) -> None:
    """Print it for people."""
    unit, best = document["unit"], document["recommended"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("policy", "prior", f"{unit}, mean", f"enough in {document['sure']:.0%}", "reached"):
        table.add_column(heading, justify="left" if heading in ("policy", "prior") else "right")
    for row in document["alternatives"]:
        amounts = ("never" if row[name] is None else f"{row[name]:,.4g}" for name in ("mean", "budget"))
        table.add_row(row["policy"], row["prior"] or "none", *amounts, f"{row['reached']:.0%}")
    console.print(table)
    if document["foretold"]:
        console.print("The record doesn't go so far: what comes after it is foretold from its counts.")
    if best is None:
        console.print(f"Nothing reaches {document['reach']:g} surely; ask for less, or sample another model.")
        return
    prior = f" with {best['prior']} as prior" if best["prior"] else ""
    console.print(
        f"Recommended for {document['goal']} {document['reach']:g}: {best['policy']}{prior}, "
        f"{best['budget']:,.4g} {unit}",
        highlight=False,
    )
    console.print(f"  {json.dumps(settings_of(document))}", highlight=False, markup=False)


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recommendation as a job file has it."""
    best = document["recommended"]
    name, _, rule = best["policy"].partition(":")
    policy = {"name": name, **({"rule": rule} if rule else {})}
    amount = best["budget"] if document["unit"] == "dollars" else int(np.ceil(best["budget"]))
    return {"sample": {"policy": policy}, "run": {"budget": {document["unit"]: amount}}}
