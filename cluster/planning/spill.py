"""Rows that come in any order are read back in the order of their keys, without ever being in memory all at once.

The first few megabytes are held. Beyond them everything goes to temporary files, one for each stretch of the order of
keys, so that reading them one after the other and sorting each gives the whole in order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.storage.numbering import Keys, as_bytes

HELD_BYTES = 2**22
"""How much is held in memory before it is written to the files."""
PIECE_ROWS, PIECE_BYTES = 10_000, 2**21
"""How large the tables are that are read back, about."""
STRETCHES = 128
"""Into so many files rows go. All are open while rows come."""


class Spill:
    """Rows of one schema."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.rows = 0
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._bounds: Keys = np.empty(0, "S1")
        self._writers: dict[int, tuple[pa.OSFile, pa.RecordBatchStreamWriter]] = {}

    def add(self, table: pl.DataFrame) -> None:
        """Take rows, in any order."""
        self.rows += len(table)
        self._held.append(table)
        self._held_bytes += int(table.estimated_size())
        if self._held_bytes > HELD_BYTES:
            self._write()

    def _write(self) -> None:
        """Write what is held; where the stretches end is learnt from the rows that came first."""
        table = pl.concat(self._held).sort(self.key, maintain_order=True)
        self._held, self._held_bytes = [], 0
        keys = as_bytes(table[self.key])
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="gristmill-problems-")
            self._bounds = np.unique(keys[np.linspace(0, len(keys), STRETCHES, endpoint=False, dtype=np.int64)[1:]])
        cuts = np.searchsorted(keys, self._bounds).tolist()
        rows = table.to_arrow(compat_level=pl.CompatLevel.oldest())
        for number, (low, high) in enumerate(zip([0, *cuts], [*cuts, len(table)], strict=True)):
            if low < high:
                self._append(number, rows.slice(low, high - low))

    def _append(self, number: int, rows: pa.Table) -> None:
        if number not in self._writers:
            file = pa.OSFile(self._place(number), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[number] = file, pa.ipc.new_stream(file, rows.schema, options=options)
        self._writers[number][1].write_table(rows)

    def _place(self, number: int) -> str:
        assert self._folder is not None
        return str(Path(self._folder.name) / f"{number}.arrow")

    def tables(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in the order of their keys, equal keys in one table; nothing can be added any more."""
        if self._folder is None:
            return pieces([pl.concat(self._held).sort(self.key, maintain_order=True)] if self._held else [])
        self._end()
        return pieces(self._stretch(number) for number in sorted(self._writers))

    def _end(self) -> None:
        if self._held:
            self._write()
        for file, writer in self._writers.values():
            if not file.closed:
                writer.close()
                file.close()

    def _stretch(self, number: int) -> pl.DataFrame:
        with pa.OSFile(self._place(number)) as file, pa.ipc.open_stream(file) as reader:
            return pl.DataFrame(pl.from_arrow(reader.read_all())).sort(self.key, maintain_order=True)


def pieces(tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the rows of some tables in tables of a middling size, whatever size they come in."""
    waiting: list[pl.DataFrame] = []
    rows = size = 0
    for table in tables:
        waiting.append(table)
        rows, size = rows + len(table), size + int(table.estimated_size())
        if rows >= PIECE_ROWS or size >= PIECE_BYTES:
            yield from _cut(pl.concat(waiting), size)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield from _cut(pl.concat(waiting), size)


def _cut(table: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    step = max(1, min(PIECE_ROWS, PIECE_BYTES * len(table) // max(1, size)))
    if len(table) < 2 * step:
        yield table
        return
    yield from table.iter_slices(step)
