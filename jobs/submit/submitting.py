"""``gristmill submit``, and looking after what was submitted: ``status``, ``logs``, ``cancel``, ``resume``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.records.events import read_events
from cluster.records.orders import give, new_order
from cluster.storage.root import Root
from jobs.config.job_file import read_job, with_assignments
from jobs.config.settings import build_pipeline, run_settings
from jobs.running.run_table import state_of
from jobs.running.summary import document
from jobs.submit.places import backend
from jobs.submit.submission import Attempt, Place, Submission, find, new_submission, write_submission
from schemas.errors import BadInput
from schemas.manifest import RunManifest

LIVE = ("waiting", "running")


def make_submission(target: str, to: Place, root: str, assignments: Sequence[str]) -> Submission:
    """Return what would be submitted, with everything checked that can be checked here.

    Raises:
        BadInput: everything that is wrong with the job.
    """
    job = with_assignments(read_job(target), assignments)
    build_pipeline(job.pipeline, job.settings)
    run_settings(job.run, job.limit)
    place = root or job.root
    if place is None:
        if to in ("ray", "kuberay"):
            raise BadInput(
                f"say where data is kept, for a cluster elsewhere: --root s3://bucket/team (or 'root:' in {target})"
            )
        place = "./gristmill-data"
    return new_submission(job, to, Root.at(place), str(Path.cwd()))


def submit(submission: Submission) -> Submission:
    """Keep a submission and hand it to its cluster."""
    backend(submission.to).preview(submission)  # what can't be, before anything is written
    Root.at(submission.root).check_writable()
    write_submission(submission)
    return _start(submission)


def resume(root: Root, name: str) -> Submission | None:
    """Submit a submission again; it goes on from what was committed. None where a run was never submitted.

    Raises:
        BadInput: it is still at work.
    """
    submission, runs = find(root, name)
    if submission is None:
        if runs and state_of(root, runs[0]) == "running":
            raise BadInput(f"run {runs[0].run_id} is still at work")
        return None
    if submission.attempts:
        state, words = backend(submission.to).state(submission, submission.attempts[-1].handle)
        if state in LIVE:
            raise BadInput(f"{submission.id} is still {state} ({words}); cancel it first: gristmill cancel {name}")
    return _start(submission.model_copy(update={"cancelled": False}))


def _start(submission: Submission) -> Submission:
    handle = backend(submission.to).start(submission, len(submission.attempts) + 1)
    attempt = Attempt(started=datetime.now(UTC), handle=handle)
    submission = submission.model_copy(update={"attempts": (*submission.attempts, attempt)})
    write_submission(submission)
    return submission


def status(root: Root, name: str) -> dict[str, Any]:
    """Return what is known of a submission or run: the cluster's word, and its runs' own.

    ``state`` is the cluster's while it has it, then the newest run's.
    """
    submission, runs = find(root, name)
    state, words = ("ended", "")
    if submission is not None and submission.attempts:
        state, words = backend(submission.to).state(submission, submission.attempts[-1].handle)
    own = state_of(root, runs[0]) if runs else None
    if submission is not None and submission.cancelled and state not in LIVE and own != "done":
        own = "cancelled"
    if own is None and state == "ended":
        own, words = "failed", words or "it never began to run; see its logs"
    if state in LIVE and not (own == "done" and _belongs(runs[0], submission)):
        own = state  # an earlier run's end isn't the submission's
    return {
        "name": submission.id if submission else runs[0].run_id,
        "to": submission.to if submission else None,
        "state": own,
        "cluster": words,
        "waits_for": runs[0].waits_for if runs and own == "running" else None,
        "runs": [document(root, run) for run in runs],
    }


def _belongs(run: RunManifest, submission: Submission | None) -> bool:
    """Whether a run is of the newest attempt."""
    return submission is not None and run.started >= submission.attempts[-1].started


def logs(root: Root, name: str) -> str:
    """Return what the newest attempt has printed; of a run that wasn't submitted, its events."""
    submission, runs = find(root, name)
    if submission is not None and submission.attempts:
        return backend(submission.to).logs(submission, submission.attempts[-1].handle)
    return "".join(_line(event) for event in read_events(root, runs[0].run_id))


def follow(root: Root, name: str, seconds: float = 2.0) -> Iterator[str]:
    """Yield what ``logs`` has more of every few seconds, until the submission or run has ended."""
    submission, runs = find(root, name)
    name = submission.id if submission is not None else runs[0].run_id  # "latest" may be another one by and by
    printed = 0
    while True:
        goes_on = _at_work(root, name)  # asked before reading: the last words come after it
        text = logs(root, name)
        yield text[printed if printed <= len(text) else 0 :]  # another attempt's output begins anew
        printed = len(text)
        if not goes_on:
            return
        time.sleep(seconds)


def _at_work(root: Root, name: str) -> bool:
    submission, runs = find(root, name)
    if submission is not None and submission.attempts:
        return backend(submission.to).state(submission, submission.attempts[-1].handle)[0] in LIVE
    return state_of(root, runs[0]) == "running"


def _line(event: dict[str, Any]) -> str:
    """Return an event as a line for people."""
    figures = [f"{name}={value}" for name, value in event.items() if name not in ("time", "run", "event", "message")]
    return " ".join(filter(None, [event["time"], event["event"], *figures, event.get("message", "")])) + "\n"


def cancel(root: Root, name: str) -> str:
    """End a submission or a run in good order; return what was done."""
    submission, runs = find(root, name)
    if submission is not None and submission.attempts:
        state, words = backend(submission.to).state(submission, submission.attempts[-1].handle)
        if state not in LIVE:
            raise BadInput(f"{submission.id} isn't at work any more ({words})")
        write_submission(submission.model_copy(update={"cancelled": True}))
        backend(submission.to).stop(submission, submission.attempts[-1].handle)
        return f"{submission.id}: told to stop; what was committed stays (gristmill resume {submission.id} goes on)"
    answer = give(root, runs[0].run_id, new_order("cancel"))
    return f"{runs[0].run_id}: {answer.answer}"
