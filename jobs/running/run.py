"""Running a job from the command line: resolve it, show its plan, execute it, say what happened."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from rich.console import Console

from cluster.driving.driver import run_pipeline
from cluster.planning.plan import RunPlan, make_plan
from cluster.planning.reuse import with_reuse
from cluster.records.events import echoes
from cluster.records.reader import open_stage, same_results
from cluster.records.recorder import write_manifest
from cluster.records.run import Observer
from cluster.runners.runner import Runner
from cluster.storage.root import Root
from cluster.upkeep.retry import forget_errors
from cluster.working.work import tools_of
from jobs.config.job_file import read_job, with_assignments
from jobs.config.options import wide_console
from jobs.config.settings import build_pipeline, run_settings
from jobs.running.asking import asking
from jobs.running.estimate import estimate
from jobs.running.outlook import outlook
from jobs.running.plan_text import plan_document, print_plan
from jobs.running.posterior import posteriors
from jobs.running.progress import Progress
from jobs.running.prompts import look_at_prompts
from jobs.running.summary import document, print_run
from pipelines.graph import Pipeline
from schemas.errors import BadInput
from schemas.extras import remedy
from schemas.job import JobFile, RunSettings
from schemas.manifest import RunManifest
from schemas.redaction import redacted

MOST_OBJECTIONS = 20
"""Lines of a dry run about problems."""


@dataclass(frozen=True)
class Job:
    """A job with everything resolved: command line over job file over defaults."""

    pipeline: Pipeline
    root: Root
    runner: str
    address: str | None
    execution: RunSettings
    file: JobFile


def prepare(
    target: str, assignments: Sequence[str], root: str, runner: str | None, address: str | None, limit: int | None
) -> Job:
    """Resolve a pipeline's name or a job file with the command line's settings.

    Raises:
        BadInput: with every unknown key or unfit value.
    """
    given = {"runner": runner, "address": address, "limit": limit}
    job = with_assignments(read_job(target), assignments)
    return resolve(job.model_copy(update={name: value for name, value in given.items() if value}), root)


def resolve(job: JobFile, root: str = "") -> Job:
    """Return a job with its pipeline built and its settings checked.

    Raises:
        BadInput: with every unknown key or unfit value.
    """
    execution = run_settings(job.run, job.limit)
    pipeline, _ = build_pipeline(job.pipeline, job.settings)
    place = Root.at(root or job.root or "./gristmill-data")
    return Job(pipeline, place, job.runner or usual_runner(), job.address, execution, job)


def usual_runner() -> str:
    """Return the runner of jobs that name none: Ray where it is installed."""
    try:
        return "ray" if find_spec("ray") is not None else "local"
    except ModuleNotFoundError:
        return "local"


def make_runner(name: str, address: str | None, environment: Mapping[str, str] | None = None) -> Runner:
    """Return the runner of this name.

    Raises:
        BadInput: Ray isn't installed, or an address was given to the local runner.
    """
    if name == "local":
        if address:
            raise BadInput("--address is for Ray; leave it out, or use --runner ray")
        from cluster.runners.local import LocalRunner

        return LocalRunner()
    try:
        from cluster.ray.runner import RayRunner
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise BadInput(f"Ray isn't installed: {remedy('ray')}, or use --runner local") from error
    return RayRunner(address, environment)


def run_job(
    job: Job, settings: RunSettings, console: Console, quiet: bool = False, observer: Observer | None = None
) -> RunManifest:
    """Run a job and write its report; where all was there already, its report is that of the run which made it.

    Args:
        observer: watches it instead of the console.

    Raises:
        BadInput: a secret that the job names isn't set here; nothing was started.
    """
    absent = [name for name in job.file.secrets if name not in os.environ]
    if absent:
        raise BadInput(f"secrets: {', '.join(absent)} isn't set in the environment here, and the job needs it")
    os.environ.update(job.file.environment)
    runner = make_runner(job.runner, job.address, job.file.environment)
    try:
        with Progress(console, quiet=quiet or echoes()) as progress:
            result = run_pipeline(job.pipeline, runner, job.root.url, settings, observer or progress)
    finally:
        runner.close()
    manifest = result.manifest
    before = same_results(job.root, manifest)
    if before is None:
        manifest.posteriors = posteriors(job.root, manifest)
        write_report(job.root, manifest)
    else:
        manifest.posteriors, manifest.report = before.posteriors, before.report
        write_manifest(job.root, manifest)
    return manifest


def execute(job: Job, settings: RunSettings, as_json: bool, retry_errors: bool = False) -> str:
    """Run a job, write its report, say what happened; return the state it ended in.

    Args:
        retry_errors: draw samples again that were refused, and give verdicts with status ``timeout`` or ``error``
            again.
    """
    console = Console(stderr=True)
    if retry_errors:
        for line in forget_errors(job.root, make_plan(job.pipeline, job.root, settings)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    manifest = run_job(job, settings, console, quiet=as_json and not console.is_terminal)
    if as_json:
        sys.stdout.write(json.dumps(document(job.root, manifest), indent=2, default=str) + "\n")
    else:
        print_run(wide_console(), job.root, manifest)
    if manifest.state != "done":
        console.print(
            f"The run is {manifest.state}. The same command continues from here; nothing that was committed is "
            f"paid for twice:\n  {settings.command}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    return manifest.state


def write_report(root: Root, manifest: RunManifest) -> str:
    """Write a run's HTML report beside its manifest and return its address."""
    from cluster.records.call_trees import calls_of
    from jobs.report.build import render  # the plotting library takes a second to import: only reports pay for it

    tables = {record.name: open_stage(root, manifest, record.name) for record in manifest.stages}
    shown = RunManifest.model_validate(redacted(manifest.model_dump(mode="json")))
    root.write_bytes(render(shown, tables, calls_of(root, manifest)).encode(), "runs", manifest.run_id, "report.html")
    manifest.report = f"runs/{manifest.run_id}/report.html"
    write_manifest(root, manifest)
    return root.uri(manifest.report)


def show_plan(job: Job, as_json: bool, worth: float | None = None) -> RunPlan:
    """Print the plan, what it will take, and what that will bring.

    Args:
        worth: what 1% of coverage is worth, in dollars (tokens where no price is known).
    """
    plan, estimates, asked, looks = _planned(job, worth)
    if as_json:
        sys.stdout.write(json.dumps(plan_document(plan, estimates, asked, looks), indent=2) + "\n")
    else:
        print_plan(wide_console(), plan, estimates, asked, looks)
    return plan


def planned(job: Job) -> dict[str, Any]:
    """Return the plan of a job as ``gristmill plan --json`` prints it."""
    return plan_document(*_planned(job, None))


def _planned(job: Job, worth: float | None) -> tuple[RunPlan, Any, Any, Any]:
    plan = with_reuse(make_plan(job.pipeline, job.root, job.execution), job.root)
    plan, _ = asyncio.run(look_at_prompts(plan, sure=False))
    estimates = estimate(plan, job.execution.prices)
    asked = asking(plan, estimates, job.execution.prices)
    looks = {
        name: outlook(plan, plan.stages[name], found, job.execution.budget, worth, asked.values())
        for name, found in estimates.items()
    }
    return plan, estimates, asked, looks


def show_dry_run(job: Job, as_json: bool, unsafe: bool = False) -> None:
    """Print the plan, what can be said against the problems, and the first rendered prompt of each sampling stage.

    Args:
        unsafe: run the problems' own tests without a sandbox.
    """
    plan = with_reuse(make_plan(job.pipeline, job.root, job.execution), job.root)
    against = objections(plan, unsafe)
    plan, prompts = asyncio.run(look_at_prompts(plan, sure=True))
    estimates = estimate(plan, job.execution.prices)
    asked = asking(plan, estimates, job.execution.prices)
    if as_json:
        document = plan_document(plan, estimates, asked)
        sys.stdout.write(json.dumps({**document, "objections": against, "first_prompts": prompts}, indent=2) + "\n")
        return
    console = wide_console()
    print_plan(console, plan, estimates, asked)
    for line in against[:MOST_OBJECTIONS]:
        console.print(f"objection: {line}", markup=False, highlight=False, soft_wrap=True)
    if len(against) > MOST_OBJECTIONS:
        console.print(
            f"objections: {len(against) - MOST_OBJECTIONS:,} more; --json tells all", markup=False, highlight=False
        )
    for name, prompt in prompts.items():
        console.rule(f"first prompt of stage {name}")
        console.print(prompt, markup=False, highlight=False, soft_wrap=True)
        console.rule()


def objections(plan: RunPlan, unsafe: bool = False) -> list[str]:
    """Return what the operators of a plan's stages have to say against its problems, with the stage's name."""
    lines: list[str] = []
    for name, stage in plan.stages.items():
        operator = stage.stage.operator
        if "problems" not in operator.inputs or "sandbox" not in operator.tools:
            continue  # the others have said what they have to say when the plan was made
        try:
            tools = tools_of(operator, unsafe)
            told = [line for rows in plan.problems.tables(plan.root) for line in operator.objections(rows, **tools)]
        except BadInput as error:
            told = [f"what the problems' tests are worth can't be told here: {error}"]
        lines += [f"{name}: {line}" for line in told]
    return lines
