"""Verifying a run's data: every file that its stages name, what these say together, and what the run says of them.

Stores, snapshots and views are read from the first page to the last; nothing is trusted that can be held against
something else: rows against the log, keys against the view, texts against their hashes, verdicts against samples,
snapshots against their manifests. What a driver would hold is held (ranges and counts), never the rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from cluster.records.annotations import FOLDER as ANNOTATIONS
from cluster.records.reader import open_stage
from cluster.storage.appending import read_appended
from cluster.storage.delta import calls_folder, scan_store
from cluster.storage.delta_log import table_exists
from cluster.storage.documents import MANIFEST
from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ranges, RangeSet
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE
from cluster.upkeep.verify_file import Expected, FileCheck, Finding, Remedy, check_file
from cluster.upkeep.verify_store import StoreCheck, log_finding, open_samples, samples_folder
from operators import operator_class
from pipelines.identity import ViewOfRanges
from schemas.books import Annotation, LedgerEntry
from schemas.contract import Contract, validate
from schemas.datasets import DATASETS, Problem, Sample
from schemas.episodes import Call
from schemas.errors import ContractViolation, DamagedLog, GristmillError
from schemas.identity import table_digest
from schemas.manifest import RunManifest, SnapshotManifest, StageRecord
from schemas.redaction import redact

Watch = Callable[[int, int], None]
"""Hears (bytes checked, bytes in all) after each file."""
LEDGER = "ledger"
"""Folder of the ledger's Delta table, where a root has one."""


@dataclass
class Verification:
    """What was checked, and what is wrong.

    Attributes:
        files, rows, size: how much was read; ``size`` in bytes.
        unchecked: what couldn't be looked at, and why.
    """

    findings: list[Finding] = field(default_factory=list[Finding])
    unchecked: list[str] = field(default_factory=list[str])
    files: int = 0
    rows: int = 0
    size: int = 0


def verify(root: Root, manifest: RunManifest, watch: Watch = lambda done, of: None) -> Verification:
    """Check all data of a run.

    Raises:
        StorageUnavailable: the storage didn't answer; that says nothing of the data.
    """
    return _Verifier(root, manifest).verify(watch)


class _Verifier:
    """Lists all files first, so that progress can be told; reads them; then compares."""

    def __init__(self, root: Root, manifest: RunManifest) -> None:
        self.root = root
        self.manifest = manifest
        self.result = Verification()
        self.stores: dict[str, StoreCheck] = {}
        self.numbering = Numbering()
        self.views: dict[str, Ranges | None] = {}
        self.snapshots: dict[str, SnapshotManifest] = {}
        self.checks: dict[str, FileCheck] = {}

    def verify(self, watch: Watch) -> Verification:
        wanted: dict[str, Expected] = {}
        for record in self.manifest.stages:
            listed = self._list_store(record) if record.kind == "store" else self._list_snapshot(record)
            wanted |= {file.path: file for file in (*listed, *self._list_calls(record))}
        self._read(list(wanted.values()), watch)
        self._compare_stores()
        for record in self.manifest.stages:
            self._counts(record)
            if record.kind == "store":
                self._coverage(record)
            elif record.path in self.snapshots:
                self._snapshot(record)
        self._ledger()
        self._annotations()
        return self.result

    def _find(self, record: StageRecord | None, file: str, what: str, remedy: Remedy = "none") -> None:
        self.result.findings.append(Finding(record.name if record else "", file, what, remedy))

    def _read(self, files: list[Expected], watch: Watch) -> None:
        total, done = sum(file.size or 0 for file in files), 0
        watch(0, total)
        for file in files:
            check = self.checks[file.path] = check_file(self.root, file, self.numbering)
            self._counted(check.rows, check.size)
            done += file.size or 0
            watch(done, total)

    def _counted(self, rows: int, size: int) -> None:
        self.result.files += 1
        self.result.rows += rows
        self.result.size += size

    # -- stores --------------------------------------------------------------------------------------------------

    def _list_store(self, record: StageRecord) -> list[Expected]:
        self.views[record.name] = view = self._view(record)
        contract = DATASETS[record.dataset]
        if record.path not in self.stores:
            self.stores[record.path] = StoreCheck(self.root, record.name, record.path, contract, self.numbering)
        store = self.stores[record.path]
        if store.store is None and not store.findings and record.reused + record.computed:
            self._find(record, record.path, "is gone: there is no Delta table", "rerun")
        return store.expected(view)

    def _list_calls(self, record: StageRecord) -> list[Expected]:
        """Return the files of the calls that a stage's episodes made, where it has some."""
        folder = calls_folder(record.path)
        if record.dataset != "samples" or not self.root.list(folder):
            return []
        store = self.stores[folder] = StoreCheck(self.root, record.name, folder, Call, self.numbering)
        return store.expected(None)

    def _view(self, record: StageRecord) -> Ranges | None:
        """Read the index ranges that the run froze; None where they can't be read."""
        path = record.view or f"runs/{self.manifest.run_id}/views/{record.name}.parquet"
        try:
            data = self.root.read_bytes(path)
            table = pl.read_parquet(io.BytesIO(data)).sort("problem_key", "first", "count")
        except GristmillError:
            raise
        except FileNotFoundError:
            self._find(record, path, "is gone; the run's manifest names it")
            return None
        except UNREADABLE as error:
            self._find(record, path, f"can't be read: {redact(str(error))[:300]}")
            return None
        self._counted(len(table), len(data))
        count = int(table["count"].sum())
        if ViewOfRanges(self.manifest.problem_view, [table]).id_in(record.path) != record.view_id:
            self._find(record, path, f"isn't the view {record.view_id} that the run's manifest names")
        elif count != record.planned:
            self._find(record, path, f"asks for {count:,} rows, the run's manifest says {record.planned:,}")
        return self.numbering.ranges(table)

    def _compare_stores(self) -> None:
        for path, store in list(self.stores.items()):
            samples = None
            if store.contract is not Sample and not store.contract.repeats:
                folder = samples_folder(path)
                samples = self.stores.get(folder) or open_samples(self.root, store.stage, path, self.numbering)
            store.conclude(self.checks, samples)
        for check in self.checks.values():
            self.result.findings += check.findings
        for store in self.stores.values():
            self.result.findings += store.findings

    def _coverage(self, record: StageRecord) -> None:
        """A complete stage has every key of its view, in files that could be read."""
        view, folder = self.views[record.name], f"{record.path}/"
        if not record.complete or view is None:
            return
        checks = [check for path, check in self.checks.items() if path.startswith(folder) and check.whole]
        found = RangeSet(Ranges.joined(check.held.ranges for check in checks))
        present = found.present(view).total
        if present != record.planned:
            what = f"has {present:,} of the {record.planned:,} rows of the run's view in files that can be read"
            self._find(record, record.path, what, "rerun")

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _list_snapshot(self, record: StageRecord) -> list[Expected]:
        contract, path = self._contract(record), f"{record.path}/{MANIFEST}"
        if not self.root.exists(path):
            if record.complete:
                self._find(record, path, "is gone: the snapshot doesn't exist without it", "rerun")
            return []
        try:
            data = self.root.read_bytes(path)
            manifest = SnapshotManifest.model_validate_json(data)
        except GristmillError:
            raise
        except ValueError as error:
            self._find(record, path, f"can't be read: {redact(str(error))[:300]}", "recompute")
            return []
        self._counted(0, len(data))
        self.snapshots[record.path] = manifest
        return [
            Expected(record.name, record.path, name, contract, rows, self._size(record.path, name), in_store=False)
            for name, rows in manifest.parts.items()
        ]

    def _size(self, *path: str) -> int | None:
        """Return a part's bytes, for the progress only: no manifest says how many they should be."""
        try:
            return self.root.patiently(lambda: int(self.root.fs.size(self.root.uri(*path))), "looking for a part")
        except OSError:  # it is gone, or a link to nowhere: checking it says so
            return None

    def _contract(self, record: StageRecord) -> type[Contract] | None:
        """Return the contract of a snapshot's rows; that of a user's own operator only where it can be imported."""
        if record.dataset in DATASETS:
            return DATASETS[record.dataset]
        try:
            return operator_class(record.operator).output
        except Exception as error:  # a user's module does what it likes when it is imported
            self.result.unchecked.append(f"stage {record.name}: its rows aren't held against a contract: {error}")
            return None

    def _snapshot(self, record: StageRecord) -> None:
        manifest, path = self.snapshots[record.path], f"{record.path}/{MANIFEST}"
        checks = [self.checks[f"{record.path}/{name}"] for name in manifest.parts]
        contract = checks[0].expected.contract if checks else None
        for what, said, is_so in (
            ("view", manifest.view_id, record.view_id),
            ("contract", manifest.contract, contract.__name__ if contract else manifest.contract),
            ("number of rows", manifest.rows, sum(manifest.parts.values())),
        ):
            if said != is_so:
                self._find(record, path, f"names the {what} {said}, it is {is_so}", "recompute")
        for name in self.root.list(record.path):
            if name.endswith(".parquet") and name not in manifest.parts:
                self._find(record, f"{record.path}/{name}", "isn't named by the manifest", "remove")
        if contract is Problem and all(check.whole and not check.findings for check in checks):
            problems = open_stage(self.root, self.manifest, record.name).collect()
            if table_digest(problems) != self.manifest.problem_view:
                self._find(record, record.path, "holds other problems than the run's manifest says", "recompute")

    # -- the run's own records -----------------------------------------------------------------------------------

    def _counts(self, record: StageRecord) -> None:
        path = f"runs/{self.manifest.run_id}/{MANIFEST}"
        got = record.reused + record.computed
        if got > record.planned or (record.kind == "store" and record.complete and got != record.planned):
            what = f"says {record.reused:,} reused and {record.computed:,} computed of {record.planned:,} planned"
            self._find(record, path, what)
        for name in ("failed", "accepted"):
            if getattr(record, name) > record.computed:
                self._find(record, path, f"says {getattr(record, name):,} {name} of {record.computed:,} computed")

    def _annotations(self) -> None:
        """What people said can be read, and is what it should be."""
        try:
            rows = read_appended(self.root, ANNOTATIONS, Annotation)
            validate(rows, Annotation, ANNOTATIONS)
            self._counted(len(rows), 0)
        except DamagedLog as error:
            self.result.findings.append(log_finding("", ANNOTATIONS, error))
        except ContractViolation as error:
            self._find(None, ANNOTATIONS, f"breaks its contract: {error}")
        except UNREADABLE as error:
            self._find(None, ANNOTATIONS, f"can't be read: {redact(str(error))}")

    def _ledger(self) -> None:
        """What was settled for this run's sampling is what its samples say it made; of episodes they say how many they
        are, and what one path of calls took."""
        try:
            if not table_exists(self.root, LEDGER):
                return
            ledger = scan_store(self.root, LEDGER, LedgerEntry)
        except DamagedLog as error:
            self.result.findings.append(log_finding("", LEDGER, error))
            return
        stores = [store for store in self.stores.values() if store.contract is Sample]
        checks = [
            self.checks[file.path] for store in stores for file in store.expected(None) if file.path in self.checks
        ]
        if not all(check.whole for check in checks):
            self.result.unchecked.append("the ledger isn't held against samples, since not all of them can be read")
            return
        entries = ledger.filter(pl.col("run_id") == self.manifest.run_id, pl.col("kind") != "order")
        rows = self.root.patiently(lambda: entries.collect(), "reading the ledger")
        if self.manifest.account is None and rows.is_empty():
            return  # a run without an account settles nothing
        self._counted(len(rows), 0)
        try:
            settled = validate(rows, LedgerEntry, LEDGER).filter(pl.col("kind") == "settle")
        except ContractViolation as error:
            self._find(None, LEDGER, f"breaks its contract: {error}")
            return
        settled = settled.filter(pl.col("stage").is_in([store.stage for store in stores]))
        made = [check.runs.get(self.manifest.run_id, (0, 0)) for check in checks]
        episodes = any(store.contract is Call for store in self.stores.values())
        for place, name in enumerate(("samples",) if episodes else ("samples", "completion_tokens")):
            said, have = int(settled[name].sum()), sum(pair[place] for pair in made)
            again = any(one.action == "requeue" and one.result == "applied" for one in self.manifest.orders)
            if said < have or (said > have and not again):  # what was made again was paid for twice
                self._find(None, LEDGER, f"has {said:,} {name} settled for this run, its samples have {have:,}")
