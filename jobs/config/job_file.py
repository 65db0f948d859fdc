"""Job files: reading one, filling in what it takes from the environment, finding everything that is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fsspec
from pydantic import ValidationError

from cluster.storage.s3 import s3_config
from jobs.config.calendar import check_cron
from jobs.config.settings import build_pipeline, explain, merge, parse_assignments, run_settings
from schemas.errors import BadInput
from schemas.job import MODULE, JobFile
from schemas.redaction import is_secret_name, protect
from schemas.yaml_text import LARGEST, load_yaml

REFERENCE = re.compile(r"\$\{env:([^}]*)\}")
SUFFIXES = (".yaml", ".yml")


def read_job(target: str) -> JobFile:
    """Return the job that ``target`` names: a YAML file (a path or URL), or a pipeline by its name.

    Raises:
        BadInput: no such file, not YAML, keys that a job file doesn't have, or references that can't be filled in.
    """
    if not target.endswith(SUFFIXES):
        if re.fullmatch(MODULE.removesuffix("$"), target) is None:
            raise BadInput(f"pipeline '{target}': no pipeline's name, no package.module and no job file (.yaml)")
        return JobFile(pipeline=target)
    job, problems = _parse(target)
    if job is None or problems:
        raise BadInput("\n".join(problems))
    for name in (*job.secrets, *_named_by_notices(job)):
        protect(os.environ.get(name))
    return job


def with_assignments(job: JobFile, assignments: Iterable[str]) -> JobFile:
    """Return a job with ``--set`` of the command line laid on top.

    Raises:
        BadInput: an assignment that isn't one.
    """
    assigned = parse_assignments(assignments)
    run = merge(job.run, assigned.pop("run", {}))
    return job.model_copy(update={"settings": merge(job.settings, assigned), "run": run})


def find_problems(target: str) -> tuple[list[str], list[str]]:
    """Return everything that is wrong with a job file, and what to see to where it runs. Starts nothing."""
    job, problems = _parse(target)
    if job is None:
        return problems, []
    found: list[str] = list(problems)

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except BadInput as error:
            found.extend(str(error).splitlines())
            return None

    attempt(lambda: run_settings(job.run, job.limit))
    built = attempt(lambda: build_pipeline(job.pipeline, job.settings))
    if built is not None:
        pipeline, _ = built
        source, *others = pipeline.stages.values()
        rows = attempt(source.operator.run)
        for stage in others if rows is not None else ():
            if "problems" in stage.operator.inputs:
                attempt(lambda stage=stage: stage.operator.check_problems(rows))
    if job.schedule is not None:
        schedule = job.schedule
        attempt(lambda: check_cron(schedule.cron))
    for place, notice in enumerate(job.notify):
        if notice.kind == "webhook" and (notice.url is None) == (notice.url_env is None):
            found.append(f"job file '{target}': notify.{place}: give url or url_env, one of the two")
    return found, _notes(job)


def _notes(job: JobFile) -> list[str]:
    """Return what must be set where the job runs and isn't set here."""
    wanted = {**dict.fromkeys(job.secrets, "secrets"), **_named_by_notices(job)}
    return [
        f"{name} isn't set here; {why} wants it where the job runs"
        for name, why in wanted.items()
        if name not in os.environ
    ]


def _named_by_notices(job: JobFile) -> dict[str, str]:
    """Return the environment variables that notices read, and which setting names each."""
    found: dict[str, str] = {}
    for notice in job.notify:
        name = {"webhook": "url_env", "email": "password_env"}.get(notice.kind)
        if name and (variable := getattr(notice, name)):
            found[variable] = f"notify ({notice.kind}.{name})"
    return found


def _parse(target: str) -> tuple[JobFile | None, list[str]]:
    """Return the job, and what is wrong with the file; None where its keys don't make a job."""
    where = f"job file '{target}'"
    try:
        document = load_yaml(_text(target))
    except BadInput as error:
        return None, [str(error)]
    except ValueError as error:
        return None, [f"{where} is not valid YAML: {error}"]
    if not isinstance(document, dict):
        return None, [f"{where} must hold keys and values, such as 'pipeline: arithmetic'"]
    secrets = document.get("secrets")
    problems: list[str] = []
    filled = _fill_in(document, "", {*secrets} if isinstance(secrets, dict) else set(), problems)
    problems = [f"{where}: {problem}" for problem in problems]
    try:
        return JobFile.model_validate(filled), problems
    except ValidationError as error:
        return None, [*problems, *explain(error, where, JobFile.model_fields, fields=JobFile.model_fields).splitlines()]


def _text(target: str) -> str:
    """Return a job file's text.

    Raises:
        BadInput: it doesn't exist, or can't be read.
    """
    if "://" not in target and not Path(target).is_file():
        raise BadInput(f"job file '{target}' doesn't exist; write one: gristmill job init {target}")
    options = s3_config().fsspec_options() if target.startswith("s3") else {}
    try:
        with fsspec.open(target, "rt", encoding="utf-8", **options) as file:
            return str(file.read(LARGEST + 1))  # pyright: ignore[reportAttributeAccessIssue]  (fsspec: a file, or a list of them)
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(f"job file '{target}' can't be read: {error}") from error


def _fill_in(value: Any, path: str, secrets: set[str], problems: list[str]) -> Any:
    """Return a value with its references to the environment filled in; tell of those that can't be."""
    if isinstance(value, dict):
        return {
            key: _fill_in(below, f"{path}.{key}" if path else str(key), secrets, problems)
            for key, below in value.items()
        }
    if isinstance(value, list):
        return [_fill_in(below, f"{path}.{place}", secrets, problems) for place, below in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        if name in secrets or is_secret_name(name):
            problems.append(
                f"{path}: '{name}' is a secret, and would end up in manifests: name it under secrets, or where a "
                "setting ends in _env; what needs it reads it from the environment"
            )
            return ""
        if name not in os.environ and ":-" not in match[1]:
            problems.append(f"{path}: the environment has no '{name}'; set it, or give a default: ${{env:{name}:-...}}")
        return os.environ.get(name, default)

    return REFERENCE.sub(fill, value)
