"""Job files: reading one, and filling in what it takes from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.storage.s3 import s3_config
from jobs.config.settings import explain, merge, parse_assignments
from schemas.errors import BadInput
from schemas.job import MODULE, JobFile
from schemas.later import fsspec
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
    job, problems = parse_job(target)
    if job is None or problems:
        raise BadInput("\n".join(problems))
    for name in (*job.secrets, *named_by_notices(job)):
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


def named_by_notices(job: JobFile) -> dict[str, str]:
    """Return the environment variables that notices read, and which setting names each."""
    found: dict[str, str] = {}
    for notice in job.notify:
        name = {"webhook": "url_env", "email": "password_env"}.get(notice.kind)
        if name and (variable := getattr(notice, name)):
            found[variable] = f"notify ({notice.kind}.{name})"
    return found


def parse_job(target: str) -> tuple[JobFile | None, list[str]]:
    """Return the job, and what is wrong with the file; None where it can't be read at all.

    Where something is wrong, the job is what is left without it: for finding what else is.
    """
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
        told = explain(error, where, JobFile.model_fields, fields=JobFile.model_fields).splitlines()
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        rest = {key: value for key, value in filled.items() if key not in wrong}
        try:
            return JobFile.model_validate(rest), [*problems, *told]
        except ValidationError:  # without its pipeline it is none
            return None, [*problems, *told]


def _text(target: str) -> str:
    """Return a job file's text.

    Raises:
        BadInput: it doesn't exist, or can't be read.
    """
    if "://" not in target and not Path(target).is_file():
        raise BadInput(f"job file '{target}' doesn't exist; write one: gristmill job init {target}")
    try:
        if "://" not in target:
            with open(target, encoding="utf-8") as file:
                return file.read(LARGEST + 1)
        options = s3_config().fsspec_options() if target.startswith("s3") else {}
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
