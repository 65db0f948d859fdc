"""Slices: what one task reads of a dataset, as a description that travels to workers instead of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from cluster.storage.ranges import restrict
from cluster.storage.root import Root
from schemas.contract import Columns, Contract, polars_schema
from schemas.errors import DamagedFile, GristmillError
from schemas.redaction import redact

UNREADABLE = (Exception, pl.exceptions.PanicException)
"""What a reader may raise over a damaged file (the second isn't an Exception)."""
MANY_PROBLEMS = 4096
"""Up to so many problem keys are pushed down to the files, where statistics skip row groups."""


def scan_files(root: Root, uris: str | Sequence[str], contract: type[Contract]) -> pl.LazyFrame:
    """Return a lazy scan of files of one contract.

    Columns, and fields of turns, that it got after a file was written are null there.
    """
    if not uris:
        return pl.LazyFrame(schema=polars_schema(contract))
    return pl.scan_parquet(
        uris if isinstance(uris, str) else list(uris),
        schema=polars_schema(contract),
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(missing_struct_fields="insert"),
        storage_options=root.storage_options(),
    )


@dataclass(frozen=True, eq=False)
class Slice:
    """Files of one dataset, and which of their rows.

    Attributes:
        ranges: restricts a store's rows to a view; keyed ranges.
        problem_keys: restricts a snapshot's rows to some problems. Where neither is there, all rows are taken.
        stretches: (first row, rows) of each file, where it is known that no others are wanted; an address may be there
            several times.
    """

    uris: tuple[str, ...]
    ranges: pl.DataFrame | None = None
    problem_keys: pl.Series | None = None
    stretches: tuple[tuple[int, int], ...] | None = None

    def scan(self, root: Root, columns: Columns) -> pl.LazyFrame:
        """Return a lazy scan of the wanted columns; only they, and the keys that restrict rows, are read."""
        dtypes = {name: polars_schema(columns.contract)[name] for name in columns.names}
        if not self.uris:
            return pl.LazyFrame(schema=dtypes)
        rows = self._scan_files(root, columns.contract)
        keys = self.problem_keys
        if self.ranges is not None:
            keys = self.ranges["problem_key"].unique()
        if keys is not None and (len(keys) <= MANY_PROBLEMS or self.ranges is None):
            rows = rows.filter(pl.col("problem_key").is_in(keys.implode()))
        if self.ranges is not None:
            rows = restrict(rows, self.ranges, columns.contract.index)
        return rows.select(columns.names)

    def _scan_files(self, root: Root, contract: type[Contract]) -> pl.LazyFrame:
        if self.stretches is None:
            return scan_files(root, self.uris, contract)
        places = zip(self.uris, self.stretches, strict=True)
        return pl.concat(scan_files(root, uri, contract).slice(first, rows) for uri, (first, rows) in places)

    def read(self, root: Root, columns: Columns) -> pl.DataFrame:
        """Return the rows.

        Raises:
            DamagedFile: a file is truncated, overwritten or gone; the text names it.
            StorageUnavailable: the storage didn't answer.
        """
        try:
            return root.patiently(lambda: self.scan(root, columns).collect(), "reading")
        except GristmillError:
            raise
        except UNREADABLE as error:
            damaged = damaged_file(root, self.uris, columns.names)
            if damaged is None:
                raise
            raise damaged from error

    def restricted_to(self, ranges: pl.DataFrame) -> Slice:
        """Return the part of this slice that is about some samples, given as keyed ranges (or about their problems)."""
        if self.ranges is not None:
            return replace(self, ranges=ranges)
        return replace(self, problem_keys=ranges["problem_key"].unique(maintain_order=True))


def damaged_file(root: Root, uris: Iterable[str], columns: Sequence[str]) -> DamagedFile | None:
    """Return an error that names the first of some files whose columns can't be read; None where all can be."""
    for uri in uris:
        try:
            rows = pl.scan_parquet(uri, storage_options=root.storage_options())
            there = rows.collect_schema().names()
            rows.select([name for name in columns if name in there]).collect()
        except UNREADABLE as error:
            return DamagedFile(
                f"the file {uri} can't be read: {redact(str(error))}. See what is damaged: gristmill verify-data "
                "latest; with --repair its rows are dropped and made again by the next run"
            )
    return None
