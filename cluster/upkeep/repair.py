"""Repair: what is damaged leaves the stores, so that the next run makes it again.

A new text never gets an old verdict, and no result stays that was computed from an old one: first the snapshots go that
read rows which will be lost, then the verdicts and scores of lost samples, the samples last; so a repair that is cut
off at any point is simply given again. All stores concerned are taken like a run takes them. Damaged files are only
taken out of their tables; they stay on disk until they are vacuumed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from cluster.records.reader import alive, manifests
from cluster.storage.documents import MANIFEST
from cluster.storage.numbering import Numbering
from cluster.storage.parts import Part, write_part
from cluster.storage.ranges import Ranges, RangeSet, restrict
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE, scan_files
from cluster.upkeep.mend_log import APPENDED, mend_log
from cluster.upkeep.verify_data import verify
from cluster.upkeep.verify_file import Finding
from cluster.upkeep.verify_store import LenientStore, samples_folder
from schemas.datasets import CONTRACTS, SAMPLES_FOLDER, Sample
from schemas.errors import GristmillError, LeaseLost, StorageFull, StorageUnavailable, StoreBusy
from schemas.manifest import RunManifest, StageRecord
from schemas.redaction import redact


@dataclass
class _Damage:
    """What leaves one store: whole files, or some rows of files (none, where a file is only to be put in order)."""

    drop: set[str] = field(default_factory=set[str])
    cut: dict[str, list[pl.DataFrame]] = field(default_factory=dict[str, list[pl.DataFrame]])
    """File -> keyed ranges."""


def repair(root: Root, manifest: RunManifest, findings: Iterable[Finding]) -> list[str]:
    """Take out what is damaged; return what was done, a sentence each.

    Raises:
        StoreBusy: a run is writing or reading one of the stores; nothing was done.
        LeaseLost: another run took a store over in the middle; give the same command again.
    """
    found, name = list(findings), f"repair-{manifest.run_id}"
    logs = sorted({finding.file.rpartition("/")[0] for finding in found if finding.remedy == "mend"})
    done = [line for folder in logs for line in mend_log(root, folder, name)]
    if logs:  # now that its files are known, whatever else is wrong with them is found
        found = verify(root, manifest).findings
    stores = {folder for folder in logs if folder not in APPENDED}
    return done + take_out(root, found, name, stores) + _mend_snapshots(root, found)


def take_out(root: Root, findings: list[Finding], name: str, mended: Collection[str] = ()) -> list[str]:
    """Take files and rows out of stores, and with them what was computed from them; return what was done.

    Args:
        name: of what holds the stores meanwhile.
        mended: stores that may have lost rows otherwise.

    Raises:
        StoreBusy, LeaseLost: as ``repair``.
    """
    damage = {**{folder: _Damage() for folder in mended}, **_damage_of_stores(findings)}
    folders = _concerned(root, damage)
    _refuse_while_in_use(root, folders)
    numbering = Numbering()
    with _taken(root, folders, name, numbering) as stores:

        def keep_alive() -> None:
            for store in stores.values():
                if not store.renew():
                    store.reclaim()

        left = {folder: _left(store, damage.get(folder, _Damage())) for folder, store in stores.items()}
        done = _outdated_snapshots(root, left, numbering)
        for folder in sorted(folders, key=lambda folder: folder in {samples_folder(other) for other in folders}):
            about = not stores[folder].contract.repeats and folder != samples_folder(folder)
            samples = left.get(samples_folder(folder)) if about else None
            done += _mend(stores[folder], damage.get(folder, _Damage()), samples, keep_alive)
    return done


def _damage_of_stores(findings: list[Finding]) -> dict[str, _Damage]:
    damage: dict[str, _Damage] = {}
    for finding in findings:
        folder, _, name = finding.file.rpartition("/")
        if finding.remedy == "drop":
            damage.setdefault(folder, _Damage()).drop.add(name)
        elif finding.remedy == "cut":
            damage.setdefault(folder, _Damage()).cut.setdefault(name, []).append(finding.keys)
    return damage


def _concerned(root: Root, damage: Iterable[str]) -> list[str]:
    """Return the damaged stores and, of samples, the stores of all verdicts and scores on them."""
    folders = {*damage}
    for folder in damage:
        kind, _, sampling = folder.partition("/")
        if kind == SAMPLES_FOLDER:
            for other in CONTRACTS.keys() - {SAMPLES_FOLDER}:
                found = [f"{other}/{sampling}/{name}" for name in root.list(other, sampling)]
                folders |= {folder for folder in found if root.exists(folder, "_delta_log")}
    return sorted(folders)


def _refuse_while_in_use(root: Root, folders: list[str]) -> None:
    for known in manifests(root):
        if known.state == "running" and alive(root, known.run_id):
            for record in known.stages:
                if record.path in folders:
                    raise StoreBusy(f"store {record.path} is in use by run {known.run_id}: repair it once that is done")


@contextmanager
def _taken(root: Root, folders: list[str], name: str, numbering: Numbering) -> Iterator[dict[str, LenientStore]]:
    """Hold the leases of stores, taken in the order in which runs take them: all or none."""
    stores = {folder: LenientStore(root, folder, CONTRACTS[folder.split("/")[0]], {}, numbering) for folder in folders}
    try:
        for store in stores.values():
            store.acquire(name)
        yield stores
    finally:
        for store in stores.values():
            try:
                store.release()
            except (LeaseLost, OSError):
                continue


def _left(store: LenientStore, damage: _Damage) -> RangeSet:
    """Return the samples whose rows are what they were: those of dropped files are not, nor those cut from any file."""
    left = RangeSet(Ranges.joined(store.files.of(name) for name in store.files if name not in damage.drop))
    for name in damage.cut:
        left.remove(_cut_from(store, damage, name))
    return left


def _cut_from(store: LenientStore, damage: _Damage, name: str) -> Ranges:
    return Ranges.joined(store.numbering.ranges(keyed) for keyed in damage.cut.get(name, ()))


def _mend(store: LenientStore, damage: _Damage, samples: RangeSet | None, keep_alive: Callable[[], None]) -> list[str]:
    """Drop damaged files, and rows that are wrong or whose samples aren't what they were, in one commit."""
    gone = {name: "dropped; the file stays until it is vacuumed" for name in damage.drop if name in store.files}
    parts: list[Part] = []
    for name in store.files:
        ranges, lost = store.files.of(name), _cut_from(store, damage, name)
        if samples is not None:
            lost = Ranges.joined([lost, samples.missing(ranges)])
        lost = lost.merged()
        unknown = samples is not None and not ranges
        if name in gone or not (lost or unknown or name in damage.cut):
            continue
        keep_alive()
        part = _without(store, name, lost)
        gone[name] = f"{lost.total:,} row(s) dropped" if lost and part else "put in order" if part else "dropped"
        parts += [part] if part is not None and part.rows else []
    if gone and not store.drop(gone.keys(), parts):
        raise GristmillError(f"store {store.folder} changed while it was repaired; give the same command again")
    return [f"{store.folder}/{name}: {what}" for name, what in gone.items()]


def _without(store: LenientStore, name: str, lost: Ranges) -> Part | None:
    """Write a file again without some rows, in order; None where that can't be, so that it has to go as a whole.

    Raises:
        GristmillError: it holds samples: whether they may go was decided before, and it was decided that they stay.
    """
    keep = RangeSet(store.files.of(name))
    keep.remove(lost)
    if not len(keep):
        return Part(name, 0, 0, "{}")
    rows = scan_files(store.root, store.root.uri(store.folder, name), store.contract)
    keyed = store.numbering.keyed(keep.ranges)
    try:
        table = store.root.patiently(lambda: restrict(rows, keyed).collect(), f"reading {store.folder}/{name}")
        return write_part(store.root, store.folder, table, store.contract, store.folder)
    except (StorageUnavailable, StorageFull):
        raise
    except UNREADABLE as error:  # damage that isn't in the findings: the file belongs to another run
        if store.contract is Sample:
            raise GristmillError(f"{store.folder}/{name} can't be written again: {redact(str(error))}") from error
        return None


def _outdated_snapshots(root: Root, left: Mapping[str, RangeSet], numbering: Numbering) -> list[str]:
    """Remove the manifests of snapshots, of any run, that were computed from rows that aren't ``left``."""
    done: dict[str, str] = {}
    for known in manifests(root):
        stale: set[str] = set()
        for record in known.stages:
            if record.kind == "store":
                if _lacks(root, record, left, numbering):
                    stale.add(record.name)
            elif stale & {*record.inputs.values()}:
                stale.add(record.name)
                if root.exists(record.path, MANIFEST):
                    root.remove(record.path, MANIFEST)
                    done[record.path] = f"{record.path}: is computed again, since rows that it was computed from go"
    return list(done.values())


def _lacks(root: Root, record: StageRecord, left: Mapping[str, RangeSet], numbering: Numbering) -> bool:
    """Whether a stage's view has rows, or rows about samples, that aren't ``left``."""
    concerned = [left[folder] for folder in (record.path, samples_folder(record.path)) if folder in left]
    if not concerned:
        return False
    try:
        view = pl.read_parquet(io.BytesIO(root.read_bytes(record.view or "")))
    except StorageUnavailable:
        raise
    except UNREADABLE:  # a view that is gone or damaged: it may have had such rows
        return True
    ranges = numbering.ranges(view)
    return any(keys.missing(ranges) for keys in concerned)


def _mend_snapshots(root: Root, findings: list[Finding]) -> list[str]:
    done: dict[str, str] = {}
    for finding in findings:
        if finding.remedy == "recompute":
            folder = "/".join(finding.file.split("/")[:3])  # snapshots/{stage}/{view_id}
            root.remove(folder, MANIFEST)
            done[folder] = f"{folder}: is computed again"
        elif finding.remedy == "remove":
            root.remove(finding.file)
            done[finding.file] = f"{finding.file}: removed"
    return list(done.values())
