"""Verifying a store: its files against the log, against each other, and against the store of the samples they judge."""

from __future__ import annotations

import polars as pl
from deltalake.exceptions import TableNotFoundError

from cluster.storage.delta import open_table
from cluster.storage.delta_log import LOG
from cluster.storage.numbering import Numbering
from cluster.storage.patience import is_away
from cluster.storage.ranges import KEYED, Ranges, RangeSet
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE
from cluster.storage.store import Store
from cluster.upkeep.verify_file import Expected, FileCheck, Finding, example
from schemas.contract import Contract
from schemas.datasets import SAMPLES_FOLDER, Sample
from schemas.errors import DamagedFile, DamagedLog, GristmillError
from schemas.redaction import redact


class LenientStore(Store):
    """A store that also opens where files can't be read: of those, no keys are known (their ranges are empty)."""

    def _read_keys(self, names: list[str]) -> pl.DataFrame:
        try:
            return super()._read_keys(names)
        except UNREADABLE as error:
            if isinstance(error, GristmillError) and not isinstance(error, DamagedFile):
                raise
            if not self.root.is_local and is_away(error):
                raise  # our caller waits for it
            if len(names) == 1:
                return pl.DataFrame(schema={"name": pl.String, **KEYED})
            return pl.concat([self._read_keys([name]) for name in names])


class StoreCheck:
    """One store of a run.

    Attributes:
        findings: what is wrong with the store as a whole, or with a file in relation to others.
        files: file name -> (rows, bytes) as the log has them, in the order in which they were committed.
    """

    def __init__(self, root: Root, stage: str, folder: str, contract: type[Contract], numbering: Numbering) -> None:
        self.root = root
        self.stage = stage
        self.folder = folder
        self.contract = contract
        self.numbering = numbering
        self.findings: list[Finding] = []
        self.files: dict[str, tuple[int | None, int | None]] = {}
        self.store: LenientStore | None = None
        try:
            self.files = root.patiently(self._listed, f"reading the log of {folder}")
            self.store = LenientStore(root, folder, contract, {}, numbering)
        except TableNotFoundError:
            return
        except DamagedLog as error:
            self.findings.append(log_finding(stage, folder, error))
        except GristmillError:
            raise
        except Exception as error:  # a log that can't be read
            self.findings.append(Finding(stage, f"{folder}/_delta_log", f"can't be read: {redact(str(error))[:300]}"))

    def _listed(self) -> dict[str, tuple[int | None, int | None]]:
        adds = pl.DataFrame(open_table(self.root, self.folder).get_add_actions(flatten=True))
        rows = pl.col("num_records") if "num_records" in adds.columns else pl.lit(None, pl.Int64).alias("num_records")
        listed = adds.sort("modification_time", "path").select("path", rows, "size_bytes")
        return {name: (count, size) for name, count, size in listed.iter_rows()}

    @property
    def held(self) -> RangeSet:
        return self.store.held if self.store is not None else RangeSet()

    def expected(self, view: Ranges | None) -> list[Expected]:
        """Return the files that hold, or could hold, rows of a view (all files where the view is None)."""
        if self.store is None:
            return []
        unknown = {name for name in self.files if not self._as_logged(name)}
        wanted = {*self.files} if view is None else {*self.store.files.holding(view)} | unknown
        return [
            Expected(self.stage, self.folder, name, self.contract, rows, size, in_store=True)
            for name, (rows, size) in self.files.items()
            if name in wanted
        ]

    def conclude(self, checks: dict[str, FileCheck], samples: StoreCheck | None) -> None:
        """Compare the files with each other, with the log and with the samples.

        Args:
            checks: path -> what was found in each file that was read.
            samples: the store of the samples that this one's rows are about; None where it holds them itself.
        """
        seen = RangeSet()
        owners: dict[str, FileCheck] = {}
        for name in self.files:
            check = checks.get(f"{self.folder}/{name}")
            if check is None or not check.whole:
                continue
            if RangeSet(self._as_logged(name)) != check.held:
                # the log's bounds tell the keys of a file with one unbroken range; a run would take its word for it
                check.find("holds other keys than the log says")
            owners[name] = check
            if self.contract.repeats:
                continue
            if twice := seen.present(check.held.ranges):
                other = next(other for other, known in owners.items() if known.held.present(twice))
                what = f"has {twice.total:,} key(s) that {other} has too: {example(self.numbering, twice)}"
                self._find(name, what, twice)
            if samples is not None:
                self._compare_with_samples(name, check, samples)
            seen.add(check.held.ranges)

    def _as_logged(self, name: str) -> Ranges:
        """Return what a file holds as far as its store knows."""
        assert self.store is not None
        return self.store.files.of(name) if name in self.store.files else Ranges.none()

    def _compare_with_samples(self, name: str, check: FileCheck, samples: StoreCheck) -> None:
        orphans = samples.held.missing(check.held.ranges)
        if orphans:
            first = example(self.numbering, orphans)
            self._find(name, f"has {orphans.total:,} row(s) whose sample isn't in {samples.folder}: {first}", orphans)

    def _find(self, name: str, what: str, ranges: Ranges) -> None:
        keys = self.numbering.keyed(ranges)
        self.findings.append(Finding(self.stage, f"{self.folder}/{name}", what, "cut", keys))


def log_finding(stage: str, folder: str, error: DamagedLog) -> Finding:
    """Return the finding about the log of a table."""
    return Finding(stage, f"{folder}/{LOG}", f"isn't whole: {error}", "mend")


def samples_folder(folder: str) -> str:
    """Return the folder of the samples that a store's rows are about: ``samples/{sampling_id}``."""
    return f"{SAMPLES_FOLDER}/{folder.split('/')[1]}"


def open_samples(root: Root, stage: str, folder: str, numbering: Numbering) -> StoreCheck:
    """Open the store of the samples that ``folder``'s rows are about."""
    return StoreCheck(root, stage, samples_folder(folder), Sample, numbering)
