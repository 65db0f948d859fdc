"""Rows of a snapshot by their numbers: a snapshot whose rows are sorted by problem has problem 7 in row 7."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import polars as pl

from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ints
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE, Slice, damaged_file, scan_files
from cluster.storage.snapshot import Snapshot
from schemas.contract import Columns
from schemas.errors import GristmillError

NEAR = 2048
"""Rows so close to each other are read together, whatever is between them."""


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

    def slice(self, numbers: Ints, numbering: Numbering) -> Slice:
        """Describe the rows of some problems, for a worker; of the files, only what is near them is read."""
        wanted = np.unique(numbers)
        if not len(wanted):
            return Slice(())
        opens = np.concatenate([[0], np.flatnonzero(np.diff(wanted) > NEAR) + 1])
        ends = wanted[np.concatenate([opens[1:], [len(wanted)]]) - 1] + 1
        stretches = list(zip(wanted[opens].tolist(), ends.tolist(), strict=True))
        found = [place for first, end in stretches for place in self._places(first, end)]
        exact = sum(end - first for first, end in stretches) == len(wanted)
        keys = None if exact else numbering.keys(wanted)
        return Slice(tuple(uri for uri, *_ in found), None, keys, tuple((low, rows) for _, low, rows in found))

    def _places(self, first: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Yield (address, first row there, rows) of the rows from ``first`` to before ``end``."""
        for (uri, rows), last in zip(self.parts, accumulate(rows for _, rows in self.parts), strict=True):
            low, high = max(first, last - rows), min(end, last)
            if low < high:
                yield uri, low - (last - rows), high - low

    def scan(self, root: Root, first: int, end: int, columns: Columns) -> pl.LazyFrame:
        """Return a lazy scan of the rows from ``first`` to before ``end``; no other row group is read."""
        pieces = [
            scan_files(root, uri, columns.contract).slice(low, rows) for uri, low, rows in self._places(first, end)
        ]
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
