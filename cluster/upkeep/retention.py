"""Which runs are kept, and giving up paid samples by name: the part of freeing space that takes somebody's word."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cluster.records.reader import alive, manifests
from cluster.storage.lease import read_lease, watch
from cluster.storage.root import Root
from cluster.upkeep.garbage import store_folders
from schemas.datasets import SAMPLES_FOLDER
from schemas.errors import BadInput, StoreBusy
from schemas.manifest import RunManifest
from schemas.schedule import Retention

ENDED = ("done", "budget reached", "failed")
"""Runs that nobody goes on with; others still have something to do."""


def to_retire(root: Root, runs: Sequence[RunManifest], rule: Retention, now: datetime) -> list[str]:
    """Return the ids of the runs that a rule doesn't keep: neither among the newest nor young enough.

    Runs that were cut off or are incomplete stay, since the same command goes on with them.

    Args:
        runs: those that the rule is about.
    """
    newest = sorted(runs, key=lambda run: run.started, reverse=True)
    kept = {run.run_id for run in newest[: rule.runs]} if rule.runs is not None else set[str]()
    if rule.days is not None:
        kept |= {run.run_id for run in newest if run.started > now - timedelta(days=rule.days)}
    if rule.runs is None and rule.days is None:
        return []
    return [
        run.run_id
        for run in newest
        if run.run_id not in kept and run.retired is None and run.state in ENDED and not alive(root, run.run_id)
    ]


def drop_samples(root: Root, sampling_id: str, dry_run: bool) -> tuple[dict[str, int], list[str]]:
    """Remove the samples of one sampling identity, with all verdicts and scores on them.

    Returns:
        The folders with their bytes, and the runs whose results stood on them.

    Raises:
        BadInput: there are no such samples.
        StoreBusy: a run is using them.
    """
    folders = [folder for folder in store_folders(root) if folder.split("/")[1] == sampling_id]
    if f"{SAMPLES_FOLDER}/{sampling_id}" not in folders:
        raise BadInput(
            f"there are no samples '{sampling_id}' under {root.url}; ids are the folders in {SAMPLES_FOLDER}/"
        )
    for folder in folders:
        lease = watch(lambda folder=folder: read_lease(root, folder))
        if lease is not None and lease.alive():
            raise StoreBusy(f"{folder} is being written by {lease.describe()}")
    using = [run for run in manifests(root) if any(record.path in folders for record in run.stages)]
    if any(alive(root, run.run_id) for run in using):
        raise StoreBusy(f"a run that uses the samples '{sampling_id}' is at work")
    sizes = {
        folder: int(root.patiently(lambda f=folder: root.fs.du(root.uri(f)), f"measuring {folder}"))
        for folder in folders
    }
    if not dry_run:
        for folder in sorted(folders, key=lambda folder: folder.startswith(SAMPLES_FOLDER)):  # what is about them first
            root.remove(folder, recursive=True)
    return sizes, [run.run_id for run in using]
