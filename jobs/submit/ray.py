"""Submitting to a Ray cluster: its job server gets our code and the job's files, and runs the driver on the cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import ray
import yaml
from packaging.requirements import Requirement
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.submit.backend import Backend, ClusterRefused, State
from jobs.submit.packing import own_files, pack
from jobs.submit.submission import Submission
from schemas.errors import BadInput
from schemas.redaction import protect, redact

STATES: dict[JobStatus, State] = {JobStatus.PENDING: "waiting", JobStatus.RUNNING: "running"}
STOP_SECONDS = 60
PATIENCE = 60.0
"""Seconds that a new cluster gets to take jobs."""
TOKEN_FILE = Path("~/.ray/auth_token")


class RayJobs(Backend):
    """Ray's Jobs API. The driver lives on the cluster, so it goes on when the machine that submitted is gone."""

    def preview(self, submission: Submission) -> str:
        _check(submission)
        with _packed(submission) as (folder, names):
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        env = _runtime_env(submission, "")
        sent = ", ".join(["Gristmill's packages", *own_files(submission)])
        return yaml.safe_dump(
            {
                "address": submission.job.resources.ray.address,
                "entrypoint": _entrypoint(submission),
                "working_dir": f"{sent} ({len(names)} files, {size:,} bytes before compression)",
                "env_vars": env["env_vars"],
                "pip": env["pip"]["packages"] if "pip" in env else "what the cluster has",
                "secrets": [*submission.job.secrets] or "none",
            },
            sort_keys=False,
            width=120,
        )

    def start(self, submission: Submission, attempt: int) -> dict[str, Any]:
        _check(submission)
        name = submission.id if attempt == 1 else f"{submission.id}-{attempt}"
        with _packed(submission) as (folder, _):
            self._hand_over(submission, name, folder)
        return {"submission_id": name, "address": submission.job.resources.ray.address}

    def _hand_over(self, submission: Submission, name: str, folder: str) -> None:
        """Submit; a cluster that has just begun, or that is busy, needs a moment before it takes jobs."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._client(submission).submit_job(
                    entrypoint=_entrypoint(submission),
                    submission_id=name,
                    runtime_env=_runtime_env(submission, folder),
                    metadata={"gristmill": submission.id, "root": submission.root},
                )
                return
            except (RuntimeError, OSError) as error:  # OSError: the connection broke off
                if isinstance(error, OSError) and self._has(submission, name):
                    return
                waits = isinstance(error, OSError) or "No available agent" in str(error)
                if not waits or time.monotonic() > until:
                    raise ClusterRefused(f"the Ray job server refused the job: {redact(str(error))}") from error
            time.sleep(1.0)

    def _has(self, submission: Submission, name: str) -> bool:
        """Whether the server has a job of that name: it took it, and only the answer was lost."""
        try:
            self._client(submission).get_job_info(name)
        except (RuntimeError, OSError, BadInput):
            return False
        return True

    def state(self, submission: Submission, handle: dict[str, Any]) -> tuple[State, str]:
        try:
            details = self._client(submission).get_job_info(handle["submission_id"])
        except RuntimeError as error:  # the cluster was started anew and has never heard of it
            return "gone", str(error).splitlines()[0]
        said = f"{details.status.value.lower()}{f': {details.message}' if details.message else ''}"
        return STATES.get(details.status, "ended"), redact(said)

    def logs(self, submission: Submission, handle: dict[str, Any]) -> str:
        try:
            return redact(self._client(submission).get_job_logs(handle["submission_id"]))
        except RuntimeError as error:
            raise ClusterRefused(f"the cluster has no log of it: {error}") from error

    def stop(self, submission: Submission, handle: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # it is over
            self._client(submission).stop_job(handle["submission_id"])

    def _client(self, submission: Submission) -> JobSubmissionClient:
        address = submission.job.resources.ray.address
        for name in ("ray", "ray.dashboard"):
            logging.getLogger(name).setLevel(logging.ERROR)
        token = _token()
        protect(token)
        try:
            return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"} if token else None)
        except AuthenticationError as error:
            raise BadInput(
                f"the Ray job server at '{address}' wants its token: put it into RAY_AUTH_TOKEN, or into {TOKEN_FILE} "
                "(ray get-auth-token shows it on the head)"
            ) from error
        except (ConnectionError, RuntimeError) as error:
            raise BadInput(
                f"no Ray job server answers at '{address}' (resources.ray.address): {str(error).splitlines()[0]}. "
                "It is the dashboard's address: ray start --head, or kubectl port-forward, gives one"
            ) from error


def _token() -> str | None:
    """Return the token of Ray's servers, from where Ray itself looks for it; a server that wants none ignores it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    return path.read_text().strip() if path.is_file() else None


def _check(submission: Submission) -> None:
    if submission.job.resources.shards > 1:
        raise BadInput("resources.shards are for Slurm: on Ray one run uses the whole cluster")


def _entrypoint(submission: Submission) -> str:
    return shlex.join(["python", "-m", "jobs.cli", *submission.command("--runner", "ray", "--address", "auto")])


def _runtime_env(submission: Submission, folder: str) -> dict[str, Any]:
    """Return Ray's description of the job's environment; secrets aren't in it, they must be set on the nodes."""
    grace = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    env: dict[str, Any] = {"working_dir": folder, "env_vars": {**grace, **submission.job.environment}}
    if submission.job.resources.ray.packages:
        env["pip"] = {"packages": _pinned(), "pip_check": False}
    return env


def _pinned() -> list[str]:
    """Return what we depend on, at the versions that are installed here; Ray itself is the cluster's."""
    found: list[str] = []
    for line in requires("gristmill") or []:
        requirement = Requirement(line)
        if requirement.marker is not None or requirement.name == "ray":
            continue
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{requirement.name}=={version(requirement.name)}")
    return found


@contextlib.contextmanager
def _packed(submission: Submission) -> Iterator[tuple[str, list[str]]]:
    """Give a folder with everything that the cluster is sent, and the names of its files."""
    folder = tempfile.mkdtemp(prefix="gristmill-")
    try:
        yield folder, pack(submission, Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_nodes(address: str, nodes: int, seconds: float) -> int:
    """Wait until a cluster has so many nodes; return how many it has in the end. For the scripts that start one."""
    until = time.monotonic() + seconds
    joined = 0
    while joined < nodes and time.monotonic() < until:
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            while True:
                joined = sum(node["Alive"] for node in ray.nodes())
                if joined >= nodes or time.monotonic() >= until:
                    break
                time.sleep(0.5)
        except ConnectionError:  # the head isn't there yet
            time.sleep(0.5)
        finally:
            ray.shutdown()
    return joined


if __name__ == "__main__":
    import sys

    found = wait_for_nodes(sys.argv[1], int(sys.argv[2]), float(os.environ.get("GRISTMILL_JOIN_SECONDS", "300")))
    if found < int(sys.argv[2]):
        sys.exit(f"only {found} of {sys.argv[2]} nodes joined the Ray cluster at {sys.argv[1]}")
