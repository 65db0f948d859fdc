"""One night's run: what it takes, may spend and knows from the nights before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from cluster.spending.account import Amount
from cluster.spending.history import spent_under
from cluster.storage.documents import MANIFEST
from jobs.config.settings import build_pipeline, merge
from jobs.export.ask import Ask
from jobs.export.exporting import NothingToExport, export
from jobs.moe.replan import replan_experts
from jobs.nightly.attempts import Attempt, Journal
from jobs.running.run import Job, resolve
from operators.policies.named import ComputeOptimalSpec, Informed, MarginalSpec, UniformSpec
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline, sampling_stage
from schemas.datasets import Verdict
from schemas.errors import BadInput, GristmillError
from schemas.job import JobFile
from schemas.manifest import RunManifest
from schemas.prices import MICRO
from schemas.schedule import MonthlyCap

CAPS = ("samples", "tokens", "dollars")
NIGHTS = 8
"""So many nights say what a night is like."""


class Unaffordable(GristmillError):
    """Nothing is left of the month's budget."""


def account_of(name: str, day: object) -> str:
    """Return what a night's spending is added up under; a month's nights share its beginning."""
    return f"nightly/{name}/{day}"


def make_night(
    file: JobFile, journal: Journal, attempt: Attempt, known: Sequence[Attempt], say: Callable[[str], None]
) -> Job:
    """Return the job of a night.

    Raises:
        BadInput: something is wrong with the job.
        Unaffordable: nothing is left of the month's budget.
    """
    schedule = file.schedule
    assert schedule is not None
    complete = [one for one in known if one.complete and one.run_id is not None]
    run: dict[str, Any] = dict(file.run)
    budget: dict[str, Any] = dict(run.get("budget") or {})
    if schedule.month is not None:
        budget |= _what_is_left(schedule.month, budget, journal, attempt)
    if budget:
        run["budget"] = {**budget, "account": account_of(journal.name, attempt.day)}
    run["job"] = account_of(journal.name, attempt.day)
    run["command"] = f"gristmill nightly run (the night of {attempt.day})"
    if schedule.new_only:
        run["without_runs"] = [one.run_id for one in complete if one.day != attempt.day]
    settings, environment = file.settings, dict(file.environment)
    pipeline, config = build_pipeline(file.pipeline, settings)
    earlier = [one for one in complete if one.day < attempt.day]
    if schedule.learn:
        if earlier:
            ids = [one.run_id for one in sorted(earlier, key=lambda one: one.day) if one.run_id is not None]
            runs = [name for name in ids if journal.root.exists("runs", name, MANIFEST)]  # others were cleared away
            settings = merge(settings, _priors(pipeline, runs, capped=any(budget.get(name) for name in CAPS)))
        try:
            environment |= replan_experts(config.engine)
        except BadInput as error:  # the night is worth more than an even load
            say(f"experts stay where they are: {error}")
    changed = file.model_copy(update={"settings": settings, "run": run, "environment": environment})
    return resolve(changed, root=journal.root.url)


def _priors(pipeline: Pipeline, runs: Sequence[str], capped: bool) -> dict[str, Any]:
    """Return settings that let policies begin with what earlier nights learned, unless they are told to begin with
    others: with the same problems' counts of the last night, and with what the nights have in common, by the policy's
    features where it has some (``operators.measure.difficulty.population``).

    Args:
        runs: of the nights, the last one last.
        capped: whether there is a budget, under which ``marginal`` is the policy of samples that are judged.
    """
    stages = pipeline.stages.values()
    judged = {sampling_stage(stage).name for stage in stages if stage.operator.output is Verdict and stage.is_store}
    found: dict[str, Any] = {}
    for stage in stages if runs else ():
        policy = stage.operator.policy if isinstance(stage.operator, Sampling) else UniformSpec()
        if policy is None and capped and stage.name in judged:
            policy = MarginalSpec()
        if isinstance(policy, ComputeOptimalSpec):  # its stages are one pipeline's arms, which says what they know
            continue
        if isinstance(policy, Informed) and policy.before is None and not policy.nights:
            learned = {"before": runs[-1], "nights": runs[-NIGHTS:]}
            found[stage.name] = {"policy": {**policy.model_dump(mode="json"), **learned}}
    return found


def _what_is_left(month: MonthlyCap, budget: dict[str, Any], journal: Journal, attempt: Attempt) -> dict[str, Any]:
    """Return the caps of a night: its own, or what the month's other nights have left where that is less."""
    beginning = account_of(journal.name, f"{attempt.day:%Y-%m-}")
    spent = spent_under(journal.root, beginning, but=account_of(journal.name, attempt.day))
    caps: dict[str, Any] = {}
    for name in CAPS:
        cap = getattr(month, name)
        if cap is None:
            continue
        left = cap - _amount(spent, name)
        if left <= 0 or (name != "dollars" and left < 1):
            raise Unaffordable(
                f"the month's {cap:,} {name} are spent ({_amount(spent, name):,.6g} by {attempt.day:%B}'s nights)"
            )
        own = budget.get(name)
        caps[name] = left if own is None else min(left, own)
    return caps


def _amount(spent: Amount, name: str) -> float:
    return spent.microdollars / MICRO if name == "dollars" else getattr(spent, name)


def export_night(file: JobFile, journal: Journal, attempt: Attempt, manifest: RunManifest) -> dict[str, str]:
    """Write the night's training data below its date; return format -> address of what there were rows for."""
    found: dict[str, str] = {}
    for wanted in file.exports:
        place = journal.root.uri(journal.folder, str(attempt.day), wanted.format)
        ask = Ask(
            format=wanted.format,
            to=place,
            stage=wanted.stage,
            reasoning=wanted.reasoning,
            validation=wanted.validation,
            licence=wanted.licence,
            overwrite=True,
            command=manifest.command,
        )
        with contextlib.suppress(NothingToExport):  # a night's verdicts may all be the same
            export(journal.root, manifest, ask)
            found[wanted.format] = place
    return found
