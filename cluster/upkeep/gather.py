"""Gathering: what other roots have is taken into one, so that a run there finds it and pays for nothing twice.

Shards of a job run under roots of their own, because a store has one writer. Samples come first, then verdicts and
scores, a file at a time; a key that is there already keeps its rows. Runs come with their manifests and views, their
snapshots with them, and the ledger with what they spent. Gathering again adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from cluster.records.annotations import FOLDER as ANNOTATIONS
from cluster.records.reader import manifests
from cluster.spending.history import append_ledger, read_ledger
from cluster.storage.appending import append, read_appended
from cluster.storage.delta import stored_identity
from cluster.storage.documents import MANIFEST
from cluster.storage.numbering import Numbering
from cluster.storage.parts import write_part
from cluster.storage.ranges import Ranges, RangeSet, ranges_of
from cluster.storage.root import Root
from cluster.storage.slices import Slice
from cluster.storage.store import Store
from cluster.upkeep.garbage import store_folders
from cluster.upkeep.verify_store import samples_folder
from schemas.books import Annotation
from schemas.datasets import CONTRACTS, Sample
from schemas.errors import BadInput

ORDER = ("calls", "samples", "verdicts", "scores")
OVER = ("done", "budget reached")
"""States of runs that have nothing more to do."""


@dataclass
class Gathered:
    """What was taken: store kind -> rows, how many runs; and what isn't there to be taken."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ORDER, 0))
    runs: int = 0
    missing: list[str] = field(default_factory=list[str])
    """One sentence for each root that has nothing, or whose newest run isn't done."""


def gather(root: Root, sources: Sequence[Root], say: Callable[[str], None]) -> Gathered:
    """Take everything that ``sources`` have into ``root``; what isn't there is told in the result's ``missing``.

    Raises:
        BadInput: a source is the root itself, or none of them has anything.
        StoreBusy: a run is writing one of the stores.
    """
    found = Gathered()
    filled: list[Root] = []
    for source in sources:
        if source.url == root.url:
            raise BadInput(f"'{source.url}' is the root itself")
        newest = next(iter(manifests(source)), None)
        if not any(True for _ in store_folders(source)):
            found.missing.append(f"'{source.url}' has no samples: it isn't a root, or nothing ran there yet")
            continue
        filled.append(source)
        if newest is None or newest.state not in OVER:
            state = "no run" if newest is None else f"run {newest.run_id}, which is '{newest.state}'"
            found.missing.append(f"'{source.url}' has {state}")
    if not filled:
        raise BadInput("; ".join(found.missing))
    for source in filled:
        folders = sorted(store_folders(source), key=lambda folder: (ORDER.index(folder.split("/")[0]), folder))
        for folder in folders:
            rows = _take_store(root, source, folder)
            found.rows[folder.split("/")[0]] += rows
            if rows:
                say(f"{source.url}: {rows:,} rows of {folder}")
        found.runs += _take_runs(root, source)
    return found


def _take_store(root: Root, source: Root, folder: str) -> int:
    """Take the rows of one store whose keys aren't there; return how many."""
    contract = CONTRACTS[folder.split("/")[0]]
    theirs = Store(source, folder, contract, {})
    numbering = theirs.numbering
    ours = Store(root, folder, contract, stored_identity(source, folder), numbering)
    about = not contract.repeats and folder != samples_folder(folder)
    samples = _Texts(root, source, samples_folder(folder), numbering) if about else None
    ours.acquire("gather")
    taken = 0
    try:
        # calls of one episode lie in many files, and all are taken or none
        there = RangeSet(ours.held.ranges) if contract.repeats else ours.held
        for name in theirs.files:
            lacking = there.missing(theirs.files.of(name))
            if samples is not None:
                lacking = samples.same(lacking)
            if lacking:
                keyed = ours.numbering.keyed(lacking)
                rows = Slice((source.uri(folder, name),), keyed).read(source, contract.select())
                ours.commit([write_part(root, folder, rows, contract, f"gathering {folder}")])
                taken += len(rows)
            if not ours.renew():
                ours.reclaim()
    finally:
        ours.release()
    return taken


class _Texts:
    """The samples that verdicts and scores of a source are about: a verdict is only good for the text that it saw."""

    def __init__(self, root: Root, source: Root, folder: str, numbering: Numbering) -> None:
        self.numbering = numbering
        self.stores = [Store(place, folder, Sample, {}, numbering) for place in (root, source)]

    def same(self, ranges: Ranges) -> Ranges:
        """Return the part of some ranges whose texts are the same in both roots."""
        ours, theirs = (self._read(store, ranges) for store in self.stores)
        both = ours.join(theirs, on=ours.columns, how="semi", nulls_equal=True)
        return self.numbering.ranges(ranges_of(both.sort("problem_key", "sample_index")))

    @staticmethod
    def _read(store: Store, ranges: Ranges) -> pl.DataFrame:
        return store.slice(ranges).read(store.root, Sample.select("problem_key", "sample_index", "completion"))


def _take_runs(root: Root, source: Root) -> int:
    """Take runs that aren't known, with the snapshots that they name; the manifest last. Return how many."""
    known = {manifest.run_id for manifest in manifests(root)}
    fresh = [manifest for manifest in manifests(source) if manifest.run_id not in known]
    for manifest in fresh:
        for record in manifest.stages:
            if record.kind == "snapshot" and not root.exists(record.path, MANIFEST):
                _copy(root, source, record.path)
        _copy(root, source, f"runs/{manifest.run_id}")
    entries = read_ledger(source)
    settled = read_ledger(root)["run_id"].unique()
    append_ledger(root, entries.filter(~entries["run_id"].is_in(settled.implode())))
    said = read_appended(source, ANNOTATIONS, Annotation)
    append(root, ANNOTATIONS, Annotation, said.join(read_appended(root, ANNOTATIONS, Annotation), on="id", how="anti"))
    return len(fresh)


def _copy(root: Root, source: Root, folder: str) -> None:
    """Copy a folder's files, its manifest last."""
    paths = source.patiently(lambda: list(source.fs.find(source.uri(folder))), f"listing {folder}")
    names = [path.rpartition(f"{folder}/")[2] for path in paths]
    for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
        root.write_bytes(source.read_bytes(folder, name), folder, name)
