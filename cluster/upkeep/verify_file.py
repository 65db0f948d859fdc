"""Verifying one file: is it what the log or the manifest says of it, down to every page and every row?

A file is read row group by row group, so memory doesn't grow with its size: by Arrow, which verifies the pages'
checksums, and by Polars, which a run reads with. What is wrong becomes a ``Finding`` that also says what would put it
right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.arrow import arrow_schema
from cluster.storage.numbering import Numbering
from cluster.storage.parts import is_indexed
from cluster.storage.ranges import KEYED, Ranges, RangeSet, ranges_of
from cluster.storage.root import Root
from cluster.storage.slices import UNREADABLE
from schemas.contract import Contract, polars_schema, validate
from schemas.conversation import turns_dtype
from schemas.datasets import Sample, Sft
from schemas.errors import ContractViolation, GristmillError
from schemas.identity import completion_hashes
from schemas.messages import conversations
from schemas.redaction import redact

Remedy = Literal["mend", "drop", "cut", "recompute", "remove", "rerun", "none"]
"""What puts it right: the log is mended, with what the files hold; the file leaves its store; some of its rows do (it
is written again without them, in order); the snapshot is computed again; the file is removed, since nothing names it;
the run's command makes it, as things are; nothing that we could do."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file.

    Attributes:
        file: relative to the root.
        what: goes after the file's name in a sentence.
        keys: the samples it is about, for ``cut``, as keyed ranges.
    """

    stage: str
    file: str
    what: str
    remedy: Remedy = "none"
    keys: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=KEYED), compare=False)


@dataclass(frozen=True)
class Expected:
    """A file that a run names, and what is said of it: rows and bytes, where they are recorded."""

    stage: str
    folder: str
    name: str
    contract: type[Contract] | None
    rows: int | None
    size: int | None
    in_store: bool

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def source(self) -> str:
        return "log" if self.in_store else "manifest"


@dataclass
class FileCheck:
    """What was found in one file; ``numbering`` is that of its run's stores.

    Attributes:
        whole: it could be read to its end and has its contract's columns, so ``held`` is all of its sample keys.
        runs: run id -> (samples, completion tokens) that it paid for; of samples only.
    """

    expected: Expected
    numbering: Numbering
    findings: list[Finding] = field(default_factory=list[Finding])
    whole: bool = False
    rows: int = 0
    size: int = 0
    held: RangeSet = field(default_factory=RangeSet)
    runs: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def find(self, what: str, remedy: Remedy | None = None, ranges: Ranges | None = None) -> None:
        """Note what is wrong; of a snapshot's part, the remedy is always to compute it again."""
        fitting = (remedy or "drop") if self.expected.in_store else "recompute"
        keys = self.numbering.keyed(ranges or Ranges.none())
        self.findings.append(Finding(self.expected.stage, self.expected.path, what, fitting, keys))


def check_file(root: Root, expected: Expected, numbering: Numbering) -> FileCheck:
    """Read a whole file and return what is wrong with it.

    Raises:
        StorageUnavailable: the storage didn't answer; that says nothing of the file.
    """
    check = FileCheck(expected, numbering)
    uri = root.uri(expected.path)
    try:
        check.size = root.patiently(lambda: int(root.fs.size(uri)), f"looking for {expected.path}")
    except FileNotFoundError:
        check.find(f"is gone; the {expected.source} names it")
        return check
    except OSError as error:
        check.find(f"can't be looked at: {error.strerror or error}")
        return check
    if expected.size not in (None, check.size):
        check.find(f"has {check.size:,} bytes, the {expected.source} says {expected.size:,}")
    try:
        _read(root, check)
    except GristmillError:
        raise
    except UNREADABLE as error:
        check.whole = False
        check.find(f"can't be read to its end: {redact(str(error)).splitlines()[0][:300]}")
        return check
    if expected.rows not in (None, check.rows):
        check.find(f"has {check.rows:,} rows, the {expected.source} says {expected.rows:,}")
    return check


def _read(root: Root, check: FileCheck) -> None:
    contract = check.expected.contract
    with _opened(root, check.expected.path) as file, pq.ParquetFile(file, page_checksum_verification=True) as reader:
        check.whole = contract is None or _is_of(reader.schema_arrow, contract)
        if contract is not None and not check.whole:
            check.find(_other_columns(reader.schema_arrow, contract))
        rows = _Rows(check, contract) if contract is not None and check.whole else None
        for index in range(reader.num_row_groups):
            group = reader.read_row_group(index)
            group.validate(full=True)  # a damaged footer gives values that would be trusted otherwise
            table = pl.DataFrame(pl.from_arrow(group))
            if not _by_polars(root, check.expected.path, check.rows, len(table)).equals(table):
                raise OSError("Arrow and Polars read different values")
            check.rows += len(table)
            if rows is not None:
                rows.add(_with_all_columns(table, rows.contract))
        if rows is not None:
            rows.conclude()


def _is_of(found: pa.Schema, contract: type[Contract]) -> bool:
    """Whether a file has the columns of a contract; an older one may lack those that were added since."""
    added = contract.added
    known = [field for field in arrow_schema(contract) if field.name not in added or field.name in found.names]
    turns = arrow_schema(Sft).field("messages").type
    plain = [field.with_type(_PLAIN_TURNS) if field.type == turns else field for field in known]
    return found.equals(pa.schema(known)) or found.equals(pa.schema(plain))


_PLAIN_TURNS = pa.list_(pa.field("element", pa.struct([("role", pa.string()), ("content", pa.string())])))
"""Turns as they were before they could have more than a text."""


def _with_all_columns(table: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    schema = polars_schema(contract)
    lacking = [pl.lit(None, schema[name]).alias(name) for name in schema if name not in table.columns]
    turns = [conversations(table[name]) for name in table.columns if schema[name] == turns_dtype()]
    return table.with_columns(*lacking, *turns).select(list(schema))


def _by_polars(root: Root, path: str, first: int, count: int) -> pl.DataFrame:
    """Return some rows as a run would read them: Polars is stricter with pages' headers, which no checksum covers."""
    rows = pl.scan_parquet(root.uri(path), storage_options=root.storage_options()).slice(first, count)
    return root.patiently(lambda: rows.collect(), f"reading {path}")


def _other_columns(found: pa.Schema, contract: type[Contract]) -> str:
    wanted = arrow_schema(contract)
    lacks, more = sorted({*wanted.names} - {*found.names}), sorted({*found.names} - {*wanted.names})
    differing = [
        f"{name} is {found.field(name)}, not {wanted.field(name)}"
        for name in wanted.names
        if name in found.names and found.names.count(name) == 1 and not found.field(name).equals(wanted.field(name))
    ]
    facts = [f"lacks {lacks}"] * bool(lacks) + [f"has unknown {more}"] * bool(more) + differing[:1]
    return f"hasn't the columns of {contract.__name__}: {'; '.join(facts) or 'their order differs'}"


class _Rows:
    """Checks the rows of one file, a row group at a time; the first example of each fault is kept, and its count."""

    def __init__(self, check: FileCheck, contract: type[Contract]) -> None:
        self.check = check
        self.contract = contract
        self.key = contract.primary_key()
        self.last: pl.DataFrame | None = None
        self.sorted = True
        self.twice = 0
        self.violation = ""
        self.wrong_texts = RangeSet()

    def add(self, table: pl.DataFrame) -> None:
        if self.key:
            self._order(table.select(self.key))
        if is_indexed(self.contract):
            self.check.held.add(self.check.numbering.ranges(ranges_of(table, self.contract.index)))
        if self.contract is Sample:
            self._texts(table)
        try:
            validate(table, self.contract, self.check.expected.stage)
        except ContractViolation as error:
            self.violation = self.violation or str(error)

    def _order(self, keys: pl.DataFrame) -> None:
        if self.last is not None:
            keys = pl.concat([self.last, keys])
        self.sorted = self.sorted and keys.equals(keys.sort(self.key))
        self.twice += len(keys) - keys.n_unique()
        self.last = keys.tail(1)

    def _texts(self, samples: pl.DataFrame) -> None:
        said = [pl.col(name).fill_null("") for name in ("reasoning", "completion", "tool_calls")]
        texts = samples.select(pl.concat_str(said)).to_series()
        hashes = pl.Series("hash", completion_hashes(texts), dtype=pl.Int64)
        wrong = ranges_of(samples.filter(samples["completion_hash"] != hashes))
        self.wrong_texts.add(self.check.numbering.ranges(wrong))
        paid = samples.group_by("run_id").agg(pl.len(), pl.col("completion_tokens").sum())
        for run_id, count, tokens in paid.iter_rows():
            known = self.check.runs.get(run_id, (0, 0))
            self.check.runs[run_id] = (known[0] + count, known[1] + tokens)

    def conclude(self) -> None:
        """Note what the rows broke."""
        check = self.check
        if is_indexed(self.contract) and not self.contract.repeats:
            # also finds keys that are twice in a file that isn't sorted
            self.twice = max(self.twice, check.rows - len(check.held))
        if self.twice:
            check.find(f"has {self.twice:,} key(s) more than once")
        elif not self.sorted:
            check.find(f"isn't sorted by {', '.join(self.key)}", "cut")
        if self.violation and not self.twice:
            check.find(f"breaks its contract: {self.violation}")
        if wrong := self.wrong_texts.ranges:
            first = example(check.numbering, wrong)
            check.find(f"has {wrong.total:,} completion_hash(es) that aren't their text's: {first}", "cut", wrong)


def example(numbering: Numbering, ranges: Ranges) -> str:
    """Name the first of some samples, in the order of their keys."""
    key, first, _ = numbering.keyed(ranges).sort("problem_key", "first").row(0)
    return f"problem_key {key}, sample_index {first}"


@contextlib.contextmanager
def _opened(root: Root, path: str) -> Iterator[Any]:
    if root.is_local:
        with pa.OSFile(root.uri(path)) as file:
            yield file
        return
    with pa.PythonFile(_PatientFile(root, path), mode="r") as file:
        yield file


class _PatientFile:
    """A remote file; each read waits for a storage that doesn't answer, and is never mistaken for damage."""

    def __init__(self, root: Root, path: str) -> None:
        self._root = root
        self._what = f"reading {path}"
        self._file: Any = root.patiently(lambda: root.fs.open(root.uri(path), "rb"), self._what)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self, size: int = -1) -> bytes:
        return self._root.patiently(lambda: self._file.read(size), self._what)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
