"""Which runs ``gristmill gc`` retires, by a job's own rule or by what the command line says."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.records.reader import manifests
from cluster.storage.root import Root
from cluster.upkeep.retention import to_retire
from schemas.errors import BadInput
from schemas.job import JobFile
from schemas.manifest import RunManifest
from schemas.schedule import Retention


def runs_to_retire(
    root: Root, file: JobFile | None, keep_runs: int | None, keep_days: float | None, pipeline: str | None
) -> list[str]:
    """Return the ids of the runs to retire; none where no rule was given.

    Raises:
        BadInput: a job without a rule, or nothing to limit by.
    """
    if file is None and keep_runs is None and keep_days is None:
        if pipeline is not None:
            raise BadInput("--pipeline says whose runs are retired; say which with --keep-runs or --keep-days")
        return []
    rule = Retention(runs=keep_runs, days=keep_days)
    if file is not None and keep_runs is None and keep_days is None:
        if file.retention is None:
            raise BadInput("the job has no 'retention'; add one, such as {runs: 30, days: 90}, or give --keep-runs")
        rule = file.retention
    concerned = [
        run
        for run in manifests(root)
        if (pipeline is None or run.pipeline == pipeline) and (file is None or of_job(run, file))
    ]
    return to_retire(root, concerned, rule, datetime.now(UTC))


def of_job(run: RunManifest, file: JobFile) -> bool:
    """Whether a run is one of a job's nights or submissions."""
    return run.job is not None and run.job.startswith((f"nightly/{file.title}/", f"{file.title}-"))
