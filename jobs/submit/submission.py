"""Submissions: what was sent to a cluster, kept at the root, so that anybody with the root can look after it."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from cluster.records.reader import find_run, manifests
from cluster.storage.documents import documents
from cluster.storage.root import Root
from schemas.errors import BadInput
from schemas.job import JobFile
from schemas.manifest import RunManifest
from schemas.redaction import secrets_in

FOLDER = "submissions"
FILE = "submission.json"
JOB = "job.yaml"

Place = Literal["local", "ray", "slurm", "kuberay"]


class Attempt(BaseModel):
    """One time that a submission was handed to a cluster.

    Attributes:
        handle: what the cluster knows it by: a process, a job's number or name.
    """

    started: datetime
    handle: dict[str, Any]


class Submission(BaseModel):
    """A job that was submitted, with everything that it needs to be submitted again.

    Attributes:
        job: the job file as it was, references to the environment filled in.
        folder: where it was submitted from; relative paths begin there.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    to: Place
    root: str
    job: JobFile
    folder: str
    created: datetime
    attempts: tuple[Attempt, ...] = ()
    cancelled: bool = False

    @property
    def job_file(self) -> str:
        """Address of the job file that the cluster reads."""
        return Root.at(self.root).uri(FOLDER, self.id, JOB)

    def command(self, *more: str) -> list[str]:
        """Return the arguments of ``gristmill`` that run it."""
        return ["run", self.job_file, "--root", self.root, "--set", f"run.job={self.id}", *more]

    def job_text(self) -> str:
        """Return the job file's text."""
        return yaml.safe_dump(self.job.model_dump(mode="json", exclude_unset=True), sort_keys=False)


def new_submission(job: JobFile, to: Place, root: Root, folder: str) -> Submission:
    """Return a submission that isn't written yet.

    Raises:
        BadInput: the root's or the folder's name has line breaks or other control characters.
    """
    for what, name in (("root", root.url), ("folder", folder)):
        if not name.isprintable():
            raise BadInput(f"{what} {name!r}: line breaks and other control characters can't be handed to a cluster")
    now = datetime.now(UTC)
    name = f"{job.title}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return Submission(id=name, to=to, root=root.url, job=job, folder=folder, created=now)


def write_submission(submission: Submission) -> None:
    """Keep a submission at its root: the job file first, the record last.

    Raises:
        BadInput: something in it is a secret; with asterisks instead it couldn't run.
    """
    document = submission.model_dump(mode="json")
    if found := secrets_in(document):
        raise BadInput(
            f"{', '.join(found)}: a key would be written to the root. Name it under secrets, or where a setting ends "
            "in _env; what needs it reads it from the environment"
        )
    root = Root.at(submission.root)
    root.write_bytes(submission.job_text().encode(), FOLDER, submission.id, JOB)
    root.write_bytes(json.dumps(document, indent=2, ensure_ascii=False).encode(), FOLDER, submission.id, FILE)


def submissions(root: Root) -> list[Submission]:
    """Return all submissions at a root, newest first."""
    remedy = "That submission can't be looked after any more, but for its runs; delete the file, or submit again"
    found = [submission for _, submission in documents(root, FOLDER, FILE, Submission, remedy)]
    return sorted(found, key=lambda submission: submission.created, reverse=True)


def find(root: Root, name: str) -> tuple[Submission | None, list[RunManifest]]:
    """Return the submission and the runs (newest first) that a submission's or a run's name, or ``latest``, is about.

    Raises:
        BadInput: there is nothing of that name, or several.
    """
    known = submissions(root)
    if name == "latest":
        newest = next(iter(manifests(root)), None)
        if known and (newest is None or newest.started < known[0].created):
            return known[0], []
        name = newest.run_id if newest else name
    found = [one for one in known if one.id == name] or [one for one in known if one.id.startswith(name)]
    if len(found) > 1:
        raise BadInput(
            f"several submissions begin with '{name}'; for example: {', '.join(one.id for one in found[:5])}"
        )
    if found:
        return found[0], [run for run in manifests(root) if run.job == found[0].id]
    manifest = find_run(root, name)
    submission = next((one for one in known if one.id == manifest.job), None)
    return submission, [manifest] if submission is None else [run for run in manifests(root) if run.job == manifest.job]
