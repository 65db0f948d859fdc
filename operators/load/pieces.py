"""Large files of problems a piece at a time: what is read of a piece is what would be read of it in the whole."""

from __future__ import annotations

import marshal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, Any, cast

from operators.load.checks import Notes
from operators.load.json_rows import Kinds, by_column, read_lines
from operators.load.rows import Rows
from schemas.later import fsspec, pl, pq

LARGE = 2**24
"""Bytes of a file from which on it is read a piece at a time."""
PIECE_BYTES = 2**21
"""Of text, about; a piece of a Parquet file has as many rows as hold so much on average."""


class PieceNotes(Notes):
    """Notes on pieces, whose rows are counted on."""

    def __init__(self) -> None:
        super().__init__()
        self.before = 0

    def count(self, what: str, row: int, rows: int = 1) -> None:
        super().count(what, row + self.before, rows)


class Pieces(ABC):
    """A large file, which can be gone through several times."""

    def __init__(self, fs: Any, place: str, source: str, notes: PieceNotes) -> None:
        self.fs = fs
        self.place = place
        self.source = source
        self.notes = notes

    @staticmethod
    def bytes_of(fs: Any, place: str) -> int:
        """Return how many bytes a file's rows have."""
        return int(fs.size(place))

    @abstractmethod
    def rows(self) -> Iterator[Rows]:
        """Yield the rows in their order."""


def pieces_of(source: str, notes: PieceNotes) -> Pieces | None:
    """Return a source's pieces; None where it is small, or of a kind that is read as a whole."""
    kind = next((made for suffix, made in KINDS.items() if source.endswith(suffix)), None)
    if kind is None:
        return None
    try:
        fs, place = cast("tuple[Any, str]", cast(Any, fsspec).core.url_to_fs(source))
        large = fs.isfile(place) and kind.bytes_of(fs, place) > LARGE
    except (OSError, ValueError, ImportError):  # (pyarrow's errors are ValueErrors)
        return None  # reading it as a whole says what is wrong
    return kind(fs, place, source, notes) if large else None


class ParquetPieces(Pieces):
    """A Parquet file: its row groups, in batches. What counts is what its rows take once they are unpacked."""

    @staticmethod
    def bytes_of(fs: Any, place: str) -> int:
        parquet = cast(Any, pq)  # it has no types
        with fs.open(place, "rb") as file, parquet.ParquetFile(file) as reader:
            return _unpacked(reader)

    def rows(self) -> Iterator[Rows]:
        parquet = cast(Any, pq)
        with self.fs.open(self.place, "rb") as file, parquet.ParquetFile(file, pre_buffer=False) as reader:
            rows = max(100, reader.metadata.num_rows * PIECE_BYTES // max(1, _unpacked(reader)))
            for batch in reader.iter_batches(batch_size=min(rows, 20_000), use_threads=False):
                yield Rows(cast(Any, pl).from_arrow(batch))


def _unpacked(reader: Any) -> int:
    """Return the bytes of a Parquet file's columns, and some for each row: equal values are written once."""
    groups = sum(reader.metadata.row_group(at).total_byte_size for at in range(reader.num_row_groups))
    return int(groups + 32 * reader.metadata.num_rows)


class LinePieces(Pieces):
    """JSON lines. They are parsed once; what a column becomes depends on all of its values, so that is seen first."""

    def __init__(self, fs: Any, place: str, source: str, notes: PieceNotes) -> None:
        super().__init__(fs, place, source, notes)
        self._kinds: Kinds | None = None
        self._parsed: IO[bytes] = tempfile.TemporaryFile(prefix="gristmill-lines-")  # noqa: SIM115

    def rows(self) -> Iterator[Rows]:
        if self._kinds is None:
            self._parse()
        assert self._kinds is not None
        self._parsed.seek(0)
        while length := int.from_bytes(self._parsed.read(8), "little"):
            yield self._kinds.rows_of(*marshal.loads(self._parsed.read(length)))  # noqa: S302 (what _parse wrote)

    def _parse(self) -> None:
        kinds = Kinds()
        for text in self._texts():
            found = read_lines(text, self.source, self.notes)
            self.notes.before += len(found)
            if found:
                columns = by_column(found)
                kinds.see_columns(columns)
                data = marshal.dumps((len(found), columns))
                self._parsed.write(len(data).to_bytes(8, "little") + data)
        self._parsed.write(bytes(8))
        self.notes.before = 0
        self._kinds = kinds

    def _texts(self) -> Iterator[str]:
        """Yield whole lines, a few megabytes at a time.

        Raises:
            UnicodeDecodeError: it isn't UTF-8.
        """
        rest = b""
        with self.fs.open(self.place, "rb") as file:
            while data := file.read(PIECE_BYTES):
                head, end, tail = data.rpartition(b"\n")
                if not end:
                    rest += data
                    continue
                yield (rest + head).decode()
                rest = tail
        if rest:
            yield rest.decode()


KINDS: dict[str, type[Pieces]] = {".jsonl": LinePieces, ".ndjson": LinePieces, ".parquet": ParquetPieces}
"""By a file's ending, what is read a piece at a time."""
