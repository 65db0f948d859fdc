"""Garbage: files under a root that nothing names any more.

Merges and repairs leave old files, crashes leave parts that nobody committed and snapshots that nobody finished. What
is younger than a limit stays, and so does everything younger than the oldest run that is alive: it may be reading files
that a merge has replaced since. What a store's current version, a manifest or a report holds is never touched.

A run that isn't alive may only be asleep. When it wakes, it must not commit a file that is gone: its stores are taken
over before anything of theirs is removed, and the snapshots that it is at stay, since nothing keeps it from finishing
them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cluster.records.reader import HEARTBEAT, alive, damaged_runs, manifests, which_live
from cluster.storage.delta import open_table
from cluster.storage.delta_log import check_log
from cluster.storage.documents import MANIFEST
from cluster.storage.lease import Lease, read_lease, watch
from cluster.storage.listing import File, by_folder, files_below
from cluster.storage.root import Root
from cluster.storage.store import EPOCH
from schemas.datasets import ANSWERS_FOLDER, CONTRACTS, STORES
from schemas.errors import BadInput, DamagedLog, LeaseLost, StoreBusy
from schemas.manifest import RunManifest

if TYPE_CHECKING:
    from deltalake import DeltaTable

KINDS = (
    *("store files", "incomplete snapshots", "unnamed snapshots", "partial files", "logs of retired runs"),
    "answers to unfinished work",
)
LOG_REMEMBERS = timedelta(days=7)
"""For how long a table's log says when a file was replaced; after that only the file's own age is known."""


@dataclass
class Garbage:
    """What was removed, or would be.

    Attributes:
        files: kind -> path relative to the root -> bytes.
        limit: what is younger stays.
        spared: what was left alone as a whole, and why.
    """

    limit: datetime
    files: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    spared: list[str] = field(default_factory=list[str])

    def count(self, kind: str) -> int:
        return len(self.files[kind])

    def size(self, kind: str) -> int:
        """Return bytes."""
        return sum(self.files[kind].values())


def collect(root: Root, older_than: float = 24.0, dry_run: bool = False, retired: Collection[str] = ()) -> Garbage:
    """Remove what nothing names and is older than ``older_than`` hours.

    Args:
        retired: runs to retire (``cluster.upkeep.retention``): their manifests, views and problems stay, so that what
            they paid and finished is still known; logs, reports and results that no other run names don't.

    Raises:
        StorageUnavailable: the storage didn't answer; the same command goes on.
        StoreBusy: a run is at work of which nobody knows what it uses, since its manifest is damaged.
    """
    known, now = list(manifests(root)), datetime.now(UTC)
    folders = [*store_folders(root)]
    for folder in folders:
        read_lease(root, folder)  # they are watched while the runs are
    at_work = which_live(root, (manifest.run_id for manifest in known if manifest.state == "running"))
    live = [manifest for manifest in known if manifest.run_id in at_work]
    damaged = damaged_runs(root, known)
    if lost := [run_id for run_id in damaged if alive(root, run_id)]:
        raise StoreBusy(f"run {lost[0]} is at work, and its manifest can't be read; try again once it has ended")
    limit = min([now - timedelta(hours=older_than), *(manifest.started for manifest in live)])
    found = Garbage(limit)
    hours = math.ceil((now - limit) / timedelta(hours=1))  # vacuum takes whole ones
    gone = {manifest.run_id for manifest in known if manifest.run_id in retired or manifest.retired is not None}
    named = {
        record.path
        for manifest in known
        for record in manifest.stages
        if manifest.run_id not in gone or record.dataset == "problems"
    }
    in_use = {record.path for manifest in known if _may_wake(root, manifest) for record in manifest.stages}
    for folder in folders:
        try:
            check_log(root, folder)
        except DamagedLog as error:
            found.spared.append(str(error))
            continue
        lease = watch(lambda folder=folder: read_lease(root, folder))
        live_writer = lease is not None and lease.run_id in {manifest.run_id for manifest in live}
        if lease is not None and lease.alive() and not live_writer:
            found.spared.append(f"{folder}: {lease.describe()} is using it")
        elif live and now - limit > LOG_REMEMBERS:
            found.spared.append(
                f"{folder}: a run is alive that began on {limit:%Y-%m-%d}, and may read what was replaced"
            )
        elif dry_run or live_writer:  # what it has still to commit is younger than the limit
            _vacuum(root, folder, hours, found, dry_run)
        else:
            _vacuum_fenced(root, folder, hours, found)
    if damaged:  # nobody knows which results these runs name, so all results stay
        found.spared.append(f"snapshots: the manifest of {', '.join(damaged)} is damaged, so all results stay")
    elif snapshots := by_folder(files_below(root, "snapshots"), depth=3):
        for folder, files in snapshots.items():
            _sweep_snapshot(root, folder, files, found, named, in_use, dry_run)
    _sweep_answers(root, found, dry_run)
    for manifest in known:
        if manifest.run_id in retired and manifest.retired is None:
            _retire(root, manifest, now, found, dry_run)
    return found


def _retire(root: Root, manifest: RunManifest, now: datetime, found: Garbage, dry_run: bool) -> None:
    """Free a run's log and report, and mark it."""
    folder = f"runs/{manifest.run_id}"
    places = f"{folder}/events/", f"{folder}/report."
    files = [file for file in files_below(root, folder) if file.path.startswith(places)]
    found.files["logs of retired runs"] |= {file.path: file.size for file in files}
    if dry_run:
        return
    from cluster.records.recorder import write_manifest

    manifest.retired, manifest.report = now, None
    write_manifest(root, manifest)  # first: it must not name what is gone
    for file in files:
        root.remove(file.path)


def store_folders(root: Root) -> Iterator[str]:
    """Yield the folders of all Delta tables of samples, verdicts and scores under the root."""
    for kind in STORES.values():
        for name in root.list(kind):
            if root.exists(kind, name, "_delta_log"):
                yield f"{kind}/{name}"
                continue
            for below in root.list(kind, name):
                if root.exists(kind, name, below, "_delta_log"):
                    yield f"{kind}/{name}/{below}"


def _may_wake(root: Root, manifest: RunManifest) -> bool:
    """Whether a run never ended, and its driver may be at work or asleep."""
    lease = read_lease(root, f"runs/{manifest.run_id}", HEARTBEAT)
    return manifest.state == "running" and lease is not None and lease.may_wake()


def _vacuum_fenced(root: Root, folder: str, hours: int, found: Garbage) -> None:
    """Vacuum a store; where something is to be removed and its last writer may only be asleep, fence that one first."""
    table = open_table(root, folder)
    epoch = root.patiently(lambda: table.transaction_version(EPOCH), f"reading the log of {folder}") or 0
    asleep = not _is_released(epoch, read_lease(root, folder)) and _unnamed(root, folder, table, hours)
    try:
        with _taken(root, folder) if asleep else nullcontext():
            _vacuum(root, folder, hours, found, dry_run=False)
    except (StoreBusy, BadInput) as error:  # somebody woke meanwhile, or it is another version's store
        found.spared.append(str(error))


def _is_released(epoch: int, lease: Lease | None) -> bool:
    """Whether the last of all who took a store gave it back; who took it may have slept before publishing the lease."""
    return epoch == 0 if lease is None else lease.released and lease.epoch == epoch


@contextmanager
def _taken(root: Root, folder: str) -> Iterator[None]:
    """Be a store's writer meanwhile; whoever was it before can never commit again."""
    from cluster.upkeep.verify_store import LenientStore

    store = LenientStore(root, folder, CONTRACTS[folder.split("/")[0]], {})
    store.acquire("gc")
    try:
        yield
    finally:
        with suppress(LeaseLost, OSError):  # after a long vacuum it may be another's
            store.release()


def _unnamed(root: Root, folder: str, table: DeltaTable, hours: int) -> list[str]:
    """Return the files of a store that its current version doesn't name, but for the log, the lease and young ones."""
    return root.patiently(
        lambda: table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True), f"listing {folder}"
    )


def _vacuum(root: Root, folder: str, hours: int, found: Garbage, dry_run: bool) -> None:
    """Remove the files that no current version names."""
    table = open_table(root, folder)
    names = _unnamed(root, folder, table, hours)
    sizes = {file.path: file.size for file in files_below(root, folder)} if names else {}
    for name in names:
        path = f"{folder}/{name}"
        kind = "partial files" if name.endswith(".partial") else "store files"
        found.files[kind][path] = sizes.get(path, 0)
    if names and not dry_run:
        root.patiently(
            lambda: table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True),
            f"vacuuming {folder}",
        )


def _sweep_snapshot(
    root: Root, folder: str, files: list[File], found: Garbage, named: set[str], in_use: set[str], dry_run: bool
) -> None:
    """Remove a snapshot that was never finished or that no run names any more, or what a crash left in one."""
    if folder in in_use:
        return
    limit = found.limit.timestamp()
    complete = any(file.path == f"{folder}/{MANIFEST}" for file in files)
    if max(file.modified for file in files) < limit and not (complete and folder in named):
        if not dry_run and files_below(root, folder) != files:
            return  # somebody began to write it since
        kind = "unnamed snapshots" if complete else "incomplete snapshots"
        found.files[kind] |= {file.path: file.size for file in files}
        if not dry_run:
            root.remove(folder, MANIFEST)  # first: half a snapshot must not look like a whole one
            root.remove(folder, recursive=True)
        return
    for file in files:
        if file.path.endswith(".partial") and file.modified < limit:
            found.files["partial files"][file.path] = file.size
            if not dry_run:
                root.remove(file.path)


def _sweep_answers(root: Root, found: Garbage, dry_run: bool) -> None:
    """Remove what engines answered to work that nobody has finished since."""
    for file in files_below(root, ANSWERS_FOLDER):
        if file.modified < found.limit.timestamp():
            found.files["answers to unfinished work"][file.path] = file.size
            if not dry_run:
                root.remove(file.path)
