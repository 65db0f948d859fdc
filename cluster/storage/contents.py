"""What a store holds: its files and the ranges in them, as its log tells, or, where it doesn't, as the files do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cluster.storage.delta import check_version, listed_files, make_table, open_table, read_keys, widen
from cluster.storage.delta_log import check_log
from cluster.storage.files import FileTable
from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ranges, RangeSet
from cluster.storage.root import Root
from cluster.storage.slices import Slice
from schemas.contract import Contract
from schemas.redaction import redacted

Result = TypeVar("Result")

WRITER = "gristmill"
"""The Delta application id whose transaction number orders all commits of a store."""
READ_ROWS = 5_000_000
"""Of about so many rows at a time the keys are read when a store is opened."""


class Contents:
    """The rows of one contract under one identity, as far as they are committed; read by whoever opens the store.

    Attributes:
        numbering: the numbers of problems, by which everything else here knows them.
        held: the samples that are committed.
        files: the files, and which ranges are in them.
        sizes: file name -> bytes.
        rows: file name -> rows.
    """

    def __init__(
        self,
        root: Root,
        folder: str,
        contract: type[Contract],
        fingerprint: dict[str, Any],
        numbering: Numbering | None = None,
    ) -> None:
        self.root = root
        self.numbering = Numbering() if numbering is None else numbering
        self.folder = folder
        self.contract = contract
        self.fingerprint = redacted(fingerprint)  # it is written to the log; the folder's name tells keys apart
        self.held = RangeSet()
        self.files = FileTable()
        self.sizes: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self._table: DeltaTable | None = None
        self._sequence = 0
        self._news: list[Ranges] = []
        try:
            self._table = open_table(root, folder)
        except TableNotFoundError:
            return
        check_version(self.folder, self._table)
        self._read_new_files()

    def _patiently(self, action: Callable[[], Result], verb: str) -> Result:
        return self.root.patiently(action, f"{verb} {self.folder}")

    def create(self) -> None:
        """Make the table if it isn't there (another writer may make it at the same time)."""
        if self._table is not None:
            widen(self.root, self.folder, self._table, self.contract)
            return
        self._table = make_table(self.root, self.folder, self.contract, self.fingerprint)
        self._read_new_files()

    def refresh(self) -> None:
        """Learn what others committed; ``DamagedLog`` where the log isn't whole any more."""
        if self._table is not None:
            check_log(self.root, self.folder)
            self._patiently(self._table.update_incremental, "reading the log of")
            self._read_new_files()

    def _read_new_files(self) -> None:
        """Learn the keys of committed files this writer doesn't know yet, and forget files that are gone.

        The log's own statistics tell the keys of a file with one unbroken range; of the others the keys are read.
        """
        self._sequence = self._last_number(WRITER)
        assert self._table is not None
        table = self._table
        present = self._patiently(lambda: listed_files(table, self.contract.index), "reading the log of")
        gone = self._forget(set(self.files) - set(present["name"]))
        self._learn(present.filter(~pl.col("name").is_in(list(self.files))))
        self._let_go(gone)

    def _last_number(self, application: str) -> int:
        """Return the application's last transaction; delta-rs reads files of the log for it."""
        assert self._table is not None
        table = self._table
        return self._patiently(lambda: table.transaction_version(application), "reading the log of") or 0

    def _learn(self, fresh: pl.DataFrame) -> None:
        """Learn the keys of committed files."""
        if not len(fresh):
            return
        self.sizes.update(fresh.select("name", "size").iter_rows())
        self.rows.update(fresh.select("name", pl.col("rows").fill_null(0)).iter_rows())
        unbroken = (pl.col("low_key") == pl.col("high_key")) & (pl.col("high") - pl.col("low") + 1 == pl.col("rows"))
        unbroken = unbroken & (not self.contract.repeats)
        fresh = fresh.with_columns(unbroken=unbroken.fill_null(False))
        known = fresh.filter("unbroken").select("name", problem_key="low_key", first="low", count="rows")
        self._remember(known["name"].to_list(), known)
        others = fresh.filter(~pl.col("unbroken"))
        batch = pl.col("rows").fill_null(0).cum_sum() // READ_ROWS
        for names in others.group_by(batch.alias("batch"), maintain_order=True).agg("name")["name"]:
            some = names.to_list()
            ranges = self._patiently(lambda some=some: self._read_keys(some), "reading the keys of")
            self._remember(some, ranges)

    def _read_keys(self, names: list[str]) -> pl.DataFrame:
        return read_keys(self.root, self.folder, names, self.contract.index)

    def _remember(self, names: Sequence[str], keyed: pl.DataFrame) -> None:
        """Take in files that were committed, with ``name`` and keyed ranges of what is in them."""
        ranges = self.numbering.ranges(keyed)
        of_file = keyed["name"].to_numpy()
        self._take_in({name: ranges[of_file == name] for name in names})

    def _take_in(self, files: Mapping[str, Ranges]) -> None:
        self.files.add(files)
        fresh = self.held.missing(Ranges.joined(files.values()).merged())
        self.held.add(fresh)
        self._news.append(fresh)

    def _forget(self, names: Collection[str]) -> Ranges:
        """Forget files that are gone; return what was in them. Where they were merged, their keys are in others."""
        for name in names:
            self.sizes.pop(name, None)
            self.rows.pop(name, None)
        return self.files.remove(names)

    def _let_go(self, gone: Ranges) -> None:
        """Hold no longer those keys of ``gone`` that no file has any more."""
        left = RangeSet(self.files.of_problems(np.unique(gone.numbers)))
        self.held.remove(left.missing(gone))

    def take_news(self) -> Ranges:
        """Return the ranges that became facts since the last call, whoever committed them."""
        news, self._news = self._news, []
        return Ranges.joined(news)

    def slice(self, ranges: Ranges) -> Slice:
        """Describe what the store has of some ranges, for a worker."""
        uris = tuple(self.root.uri(self.folder, name) for name in self.files.holding(ranges))
        return Slice(uris, self.numbering.keyed(ranges))
