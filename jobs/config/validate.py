"""Finding everything that is wrong with a job file, in one pass and before anything is paid."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jobs.config.job_file import named_by_notices, parse_job
from jobs.config.settings import build_pipeline, run_settings
from pipelines.graph import Pipeline
from pipelines.unjudged import has_answers, refuse_unjudged
from schemas.errors import BadInput
from schemas.job import JobFile

Result = TypeVar("Result")


def find_problems(target: str) -> tuple[list[str], list[str]]:
    """Return everything that is wrong with a job file, and what to see to where it runs. Starts nothing."""
    job, problems = parse_job(target)
    if job is None:
        return problems, []
    found: list[str] = list(problems)

    def attempt(check: Callable[[], Result]) -> Result | None:
        try:
            return check()
        except BadInput as error:
            found.extend(line for line in str(error).splitlines() if line not in found)
            return None

    attempt(lambda: run_settings(job.run, job.limit))
    pipeline = _what_builds(job, attempt)
    if pipeline is not None:
        source, *others = pipeline.stages.values()
        rows = attempt(source.operator.run)
        if rows is not None:
            asking = [stage.operator for stage in others if "problems" in stage.operator.inputs]
            for operator in asking:
                attempt(partial(operator.check_problems, rows))
            if not has_answers(rows):
                attempt(lambda: refuse_unjudged(pipeline.stages.values()))
        found.extend(_too_few_gpus(job, pipeline))
    if job.schedule is not None:
        from jobs.config.calendar import check_cron  # its library takes a while to import

        schedule = job.schedule
        attempt(lambda: check_cron(schedule.cron))
    for place, notice in enumerate(job.notify):
        if notice.kind == "webhook" and (notice.url is None) == (notice.url_env is None):
            found.append(f"job file '{target}': notify.{place}: give url or url_env, one of the two")
    absent = [name for name in job.resources.files if not Path(name).exists()]
    found.extend(f"job file '{target}': resources.files: '{name}' doesn't exist" for name in absent)
    return found, _notes(job)


def _what_builds(job: JobFile, attempt: Callable[[Callable[[], Any]], Any]) -> Pipeline | None:
    """Return the pipeline of those settings that are right, having told what is wrong with the others."""
    whole = attempt(lambda: build_pipeline(job.pipeline, job.settings))
    if whole is None:
        good = {
            key: value
            for key, value in job.settings.items()
            if attempt(lambda key=key, value=value: build_pipeline(job.pipeline, {key: value})) is not None
        }
        try:
            whole = build_pipeline(job.pipeline, good)
        except BadInput:  # the pipeline itself, which was told
            return None
    return whole[0]


def _too_few_gpus(job: JobFile, pipeline: Pipeline) -> list[str]:
    """Return which engines want more GPUs than the job asks a cluster for."""
    if "resources" not in job.model_fields_set:
        return []
    there, found = job.resources.gpus, list[str]()
    for stage in pipeline.stages.values():
        for engine in (stage.engine, *stage.engines.values()):
            wanted = engine.ranks * engine.gpus if engine is not None else 0
            if wanted > there:
                found.append(f"stage {stage.name}: an engine wants {wanted:g} GPU(s), resources.groups have {there}")
    return found


def _notes(job: JobFile) -> list[str]:
    """Return what must be set where the job runs and isn't set here."""
    wanted = {**dict.fromkeys(job.secrets, "secrets"), **named_by_notices(job)}
    return [
        f"{name} isn't set here; {why} wants it where the job runs"
        for name, why in wanted.items()
        if name not in os.environ
    ]
