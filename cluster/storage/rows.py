"""Rows of a snapshot by their numbers: a snapshot whose rows are sorted by problem has problem 7 in row 7."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import polars as pl

from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE, damaged_file, scan_files
from cluster.storage.snapshot import Snapshot
from schemas.contract import Columns
from schemas.errors import GristmillError


@dataclass(frozen=True)
class NumberedRows:
    """A snapshot with a row for each problem; small and picklable.

    Attributes:
        parts: (address, rows) of its files, in order.
    """

    parts: tuple[tuple[str, int], ...]

    @staticmethod
    def of(snapshot: Snapshot) -> NumberedRows:
        """Describe a complete snapshot."""
        manifest = snapshot.manifest()
        assert manifest is not None, f"{snapshot.stage} was read before it was complete"
        return NumberedRows(
            tuple((snapshot.root.uri(snapshot.folder, name), rows) for name, rows in manifest.parts.items())
        )

    def __len__(self) -> int:
        return sum(rows for _, rows in self.parts)

    def scan(self, root: Root, first: int, end: int, columns: Columns) -> pl.LazyFrame:
        """Return a lazy scan of the rows from ``first`` to before ``end``; no other row group is read."""
        pieces: list[pl.LazyFrame] = []
        for (uri, rows), last in zip(self.parts, accumulate(rows for _, rows in self.parts), strict=True):
            low, high = max(first, last - rows), min(end, last)
            if low < high:
                pieces.append(scan_files(root, uri, columns.contract).slice(low - (last - rows), high - low))
        whole = pl.concat(pieces) if pieces else scan_files(root, [], columns.contract)
        return whole.select(columns.names)

    def read(self, root: Root, first: int, end: int, columns: Columns) -> pl.DataFrame:
        """Return the rows from ``first`` to before ``end``.

        Raises:
            DamagedFile: a file is truncated, overwritten or gone; the text names it.
            StorageUnavailable: the storage didn't answer.
        """
        try:
            return root.patiently(self.scan(root, first, end, columns).collect, "reading problems")
        except GristmillError:
            raise
        except UNREADABLE as error:
            damaged = damaged_file(root, [uri for uri, _ in self.parts], columns.names)
            if damaged is None:
                raise
            raise damaged from error

    def tables(self, root: Root, columns: Columns, step: int) -> Iterator[pl.DataFrame]:
        """Yield all rows, ``step`` at a time."""
        for first in range(0, len(self), step):
            yield self.read(root, first, first + step, columns)
