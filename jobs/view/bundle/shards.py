"""Tables as Parquet files that a browser reads: small ones, for servers that only hand out whole files; of small row
groups with statistics, for those that hand out ranges."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

LIMIT = 8_000_000
"""Bytes of a file at most; one row that takes more is a file of its own."""
GROUP_BYTES = 400_000
"""Of a row group, before compression: what is read to show a single row."""
GROUP_ROWS = 8_192


class Shards:
    """Writes a table, piece by piece, in the order in which its rows are added.

    Attributes:
        rows: how many were added.
    """

    def __init__(self, folder: Path, name: str, statistics: Sequence[str] = ()) -> None:
        """Args:
        statistics: columns whose least and greatest value are kept for each row group.
        """
        self.folder, self.name, self.statistics = folder, name, list(statistics)
        self.rows = 0
        self._files: list[dict[str, Any]] = []
        self._pending: list[pl.DataFrame] = []
        self._bytes = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows; all pieces have the same columns."""
        if not len(rows):
            return
        self.rows += len(rows)
        self._pending.append(rows)
        self._bytes += int(rows.estimated_size())
        if self._bytes >= 2 * LIMIT:
            self._flush()

    def finish(self) -> list[dict[str, Any]]:
        """Write what is left; return each file's name, bytes, bytes of its footer, first row and rows."""
        self._flush()
        return self._files

    def _flush(self) -> None:
        if self._pending:
            rows, self._pending, self._bytes = pl.concat(self._pending), [], 0
            self._write(rows)

    def _write(self, rows: pl.DataFrame) -> None:
        written = self._encoded(rows)
        if len(written) > LIMIT and len(rows) > 1:
            self._write(rows[: len(rows) // 2])
            self._write(rows[len(rows) // 2 :])
            return
        name = f"{self.name}-{len(self._files):05}.parquet"
        (self.folder / name).write_bytes(written)
        first = self._files[-1]["first"] + self._files[-1]["rows"] if self._files else 0
        footer = int.from_bytes(written[-8:-4], "little") + 8
        self._files.append({"name": name, "bytes": len(written), "footer": footer, "first": first, "rows": len(rows)})

    def _encoded(self, rows: pl.DataFrame) -> bytes:
        each = max(1, int(rows.estimated_size()) // len(rows))
        buffer = io.BytesIO()
        table: pa.Table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(
            table, buffer, compression="zstd", compression_level=6, store_schema=False,
            row_group_size=max(1, min(GROUP_ROWS, GROUP_BYTES // each)),
            write_statistics=self.statistics,  # pyright: ignore[reportArgumentType] : a list of columns is allowed
        )  # fmt: skip
        return buffer.getvalue()
