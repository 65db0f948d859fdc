"""What is said of a plan before anything runs: tables for people, one document for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.planning.plan import RunPlan
from jobs.moe.outlook import experts_of, lines_of
from jobs.report.format import duration
from jobs.running.asking import Asking
from jobs.running.episodes import lines as lines_of_episodes
from jobs.running.estimate import REMEDY, Estimate
from jobs.running.outlook import Outlook


def print_plan(
    console: Console,
    plan: RunPlan,
    estimates: Mapping[str, Estimate],
    asked: Mapping[str, Asking],
    outlooks: Mapping[str, Outlook] | None = None,
) -> None:
    """Print what each stage would reuse, top up or compute, and why; what samples and judging will take, and bring."""
    table = Table(title=f"Plan of {plan.pipeline.name}: {len(plan.problems):,} problems under {plan.root.url}")
    for heading in ("stage", "operator", "action", "there", "wanted", "why"):
        table.add_column(heading, justify="right" if heading in ("there", "wanted") else "left")
    colours = {"reuse": "green", "top up": "yellow", "compute": "cyan"}
    for name, stage in plan.stages.items():
        table.add_row(
            name,
            stage.stage.operator.public_name(),
            f"[{colours[stage.action]}]{stage.action}[/]",
            f"{stage.held:,}",
            f"{stage.planned:,}",
            escape(stage.why),
        )
    console.print(table)
    for note in plan.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    for name, found in estimates.items():
        hours = f"{duration(3600 * found.hours)} ({found.throughput_from})" if found.hours is not None else REMEDY
        dollars = f"${found.dollars:,.2f}" if found.dollars is not None else f"{REMEDY}, or name run.prices"
        for line in (
            f"{name}: {found.samples:,} samples to draw",
            f"  tokens   {found.prompt_tokens:,} in prompts, {found.completion_tokens:,} "
            f"[{found.tokens_interval[0]:,}, {found.tokens_interval[1]:,}] in completions",
            f"           ({found.tokens_from})",
            f"  time     {hours}",
            f"  dollars  {dollars}",
            *(lines_of_episodes(found.episodes) if found.episodes is not None else []),
        ):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        experts = experts_of(plan.stages[name].stage.engine)
        for line in [] if experts is None else lines_of(experts):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        if outlooks is not None and name in outlooks:
            print_outlook(console, outlooks[name])
    for name, found in asked.items():
        for line in (
            f"{name}: {found.samples:,} samples to ask an engine about",
            f"  tokens   {found.prompt_tokens:,} in prompts, {found.completion_tokens:,} in completions",
            f"           ({found.tokens_from})",
            *([f"  dollars  ${found.dollars:,.2f}"] if found.dollars is not None else []),
        ):
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_outlook(console: Console, found: Outlook) -> None:
    """Print what the budget affords, and what more samples would bring."""
    money = "${:,.4g}" if found.unit == "dollars" else "{:,.0f} tokens"
    if found.affords is not None:
        least, expected, most = found.affords
        console.print(
            f"  budget   affords about {expected:,} samples [{least:,}, {most:,}], {found.binds} end it",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    for point in found.points:
        more = "" if point.gained is None else ", nothing left to gain"
        if point.per_percent is not None:
            more = f", the next 1% at {money.format(point.per_percent)}"
        mark = "  <- the budget" if point is found.at_budget else ""
        console.print(
            f"  coverage {point.coverage:.3f} [{point.low:.3f}, {point.high:.3f}] at {point.k:,} {found.draws} each, "
            f"{money.format(point.cost)} in all{more}{mark}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    if found.worth_until is not None:
        console.print(
            f"  1% of coverage costs no more than it is worth up to about {found.worth_until:,} {found.draws} each",
            highlight=False,
        )


def plan_document(
    plan: RunPlan,
    estimates: Mapping[str, Estimate],
    asked: Mapping[str, Asking],
    outlooks: Mapping[str, Outlook] | None = None,
) -> dict[str, Any]:
    """Return the plan as one JSON-able document."""
    return {
        "pipeline": plan.pipeline.name,
        "root": plan.root.url,
        "n_problems": len(plan.problems),
        "notes": list(plan.notes),
        "stages": [
            {
                "name": name,
                "operator": stage.stage.operator.public_name(),
                "action": stage.action,
                "held": stage.held,
                "planned": stage.planned,
                "why": stage.why,
                "dataset": plan.root.uri(stage.folder),
                **({"estimate": asdict(estimates[name])} if name in estimates else {}),
                **({"asking": asdict(asked[name])} if name in asked else {}),
                **({"outlook": asdict(outlooks[name])} if outlooks and name in outlooks else {}),
                **({"experts": experts} if (experts := experts_of(stage.stage.engine)) else {}),
            }
            for name, stage in plan.stages.items()
        ],
    }
