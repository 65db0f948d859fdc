"""Submitting to this machine: a process of its own that outlives the terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.storage.lease import process_born
from cluster.storage.root import Root
from jobs.submit.backend import Backend, State
from jobs.submit.submission import FOLDER, Submission
from schemas.errors import BadInput


class Local(Backend):
    """A detached process; its output goes to a file beside the submission, or in the temporary folder."""

    def preview(self, submission: Submission) -> str:
        if submission.job.resources.shards > 1:
            raise BadInput("resources.shards are for Slurm: here one run uses the whole machine")
        runner = submission.job.runner or "ray"
        command = shlex.join(["gristmill", *submission.command("--runner", runner)])
        return f"cd {shlex.quote(submission.folder)} && {command}\n"

    def start(self, submission: Submission, attempt: int) -> dict[str, Any]:
        self.preview(submission)
        log = _log_file(submission, attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", *submission.command()],
                cwd=submission.folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return {"pid": process.pid, "born": process_born(process.pid), "log": str(log)}

    def state(self, submission: Submission, handle: dict[str, Any]) -> tuple[State, str]:
        lives = handle["born"] and process_born(handle["pid"]) == handle["born"]
        return ("running", f"process {handle['pid']}") if lives else ("ended", f"process {handle['pid']} is gone")

    def logs(self, submission: Submission, handle: dict[str, Any]) -> str:
        path = Path(handle["log"])
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self, submission: Submission, handle: dict[str, Any]) -> None:
        if self.state(submission, handle)[0] == "running":
            os.kill(handle["pid"], signal.SIGTERM)


def _log_file(submission: Submission, attempt: int) -> Path:
    root = Root.at(submission.root)
    if root.is_local:
        return Path(root.url) / FOLDER / submission.id / f"attempt-{attempt}.log"
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "gristmill" / f"{submission.id}-{attempt}.log"
