"""What every kind of cluster can do with a submission."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from jobs.submit.submission import Submission
from schemas.errors import BadInput, GristmillError
from schemas.redaction import redact

State = Literal["waiting", "running", "ended", "gone"]
"""In a queue; at work; over, well or not; unknown to the cluster (by now)."""


class ClusterRefused(GristmillError):
    """A cluster's own tool said no; the text has its words."""


class Backend(ABC):
    """One kind of cluster."""

    @abstractmethod
    def preview(self, submission: Submission) -> str:
        """Return what would be submitted, as text. Touches nothing.

        Raises:
            BadInput: the job can't be run there.
        """

    @abstractmethod
    def start(self, submission: Submission, attempt: int) -> dict[str, Any]:
        """Submit it; return what the cluster knows it by."""

    @abstractmethod
    def state(self, submission: Submission, handle: dict[str, Any]) -> tuple[State, str]:
        """Return its state, and the cluster's own words for it."""

    @abstractmethod
    def logs(self, submission: Submission, handle: dict[str, Any]) -> str:
        """Return what it has printed so far."""

    @abstractmethod
    def stop(self, submission: Submission, handle: dict[str, Any]) -> None:
        """End it in good order: what is in flight is written down."""


def call(command: Sequence[str], stdin: str | None = None, *, seconds: float = 60.0) -> str:
    """Return what a cluster's tool prints.

    Raises:
        BadInput: it isn't installed here.
        ClusterRefused: it failed, or didn't answer.
    """
    if shutil.which(command[0]) is None:
        raise BadInput(f"'{command[0]}' isn't installed here; submit from a machine that has it, or look at --dry-run")
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ClusterRefused(f"'{command[0]}' didn't answer within {seconds:.0f} s") from error
    if done.returncode:
        raise ClusterRefused(f"{' '.join(command[:3])} failed: {redact(done.stderr.strip() or done.stdout.strip())}")
    return done.stdout
