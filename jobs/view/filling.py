"""Filling the index of a run's samples from its stores and snapshots: all of them at first, then what is committed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cluster.storage.delta import listed_files, open_table
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from cluster.storage.snapshot import read_snapshot
from jobs.view.codes import answers, counts, fixed, flags, named, scores
from jobs.view.index import FLAGS, JUDGED, STATUS, VERDICTS, Array, Index, Slots
from jobs.view.slots import Places
from schemas.contract import Contract
from schemas.datasets import DATASETS, Sample, Score, Verdict
from schemas.datasets import Path as PathRow
from schemas.manifest import RunManifest, StageRecord

AT_ONCE = 500_000
"""Rows that are read at once."""
SAMPLE = ("status", "finish_reason", "completion_tokens", "prompt_tokens", "worker", "episode", "chosen")


class Followed:
    """A store's files, as its log tells, looked at again and again.

    Attributes:
        files: name, rows, low_key, high_key, of all there are now.
    """

    def __init__(self, root: Root, folder: str, contract: type[Contract]) -> None:
        self.root, self.folder, self.contract = root, folder, contract
        self.files = pl.DataFrame(
            schema={"name": pl.String, "rows": pl.Int64, "low_key": pl.String, "high_key": pl.String}
        )
        self._table: DeltaTable | None = None

    def look(self) -> bool:
        """Learn what was committed; return whether there is anything new."""
        if self._table is None:
            try:
                self._table = open_table(self.root, self.folder)
            except TableNotFoundError:
                return False
        else:
            before = self._table.version()
            if self.root.is_local and not self._next_entry(before).exists():
                return False
            self.root.patiently(self._table.update_incremental, f"reading the log of {self.folder}")
            if self._table.version() == before:
                return False
        found = listed_files(self._table, self.contract.index)
        self.files = found.select(
            "name", pl.col("rows").cast(pl.Int64).fill_null(0), pl.col("low_key", "high_key").cast(pl.String)
        )
        return True

    def _next_entry(self, version: int) -> Path:
        return Path(self.root.uri(self.folder, "_delta_log", f"{version + 1:020}.json"))

    def uris(self, low: str | None = None, high: str | None = None) -> list[str]:
        """Return the addresses of the files, or of those that may have keys from ``low`` to ``high``."""
        found = self.files
        if low is not None and high is not None:
            found = found.filter(
                (pl.col("low_key") <= pl.lit(high)).fill_null(True), (pl.col("high_key") >= pl.lit(low)).fill_null(True)
            )
        return [self.root.uri(self.folder, name) for name in found["name"]]

    def scan_one(self, uri: str) -> pl.LazyFrame:
        """Return a lazy scan of one of the files."""
        return scan_files(self.root, [uri], self.contract)

    def scan(self, low: str | None = None, high: str | None = None) -> pl.LazyFrame:
        """Return a lazy scan of these files."""
        return scan_files(self.root, self.uris(low, high), self.contract)


class Tally:
    """Sums over each problem's rows, kept up to date with every row that is written."""

    NAMES = ("drawn", "judged", "right", "tokens", "prompt_tokens")

    def __init__(self, index: Index, places: Places) -> None:
        self.places = places
        count = len(places.keys)
        self.sums = {name: np.zeros(count, np.int64) for name in self.NAMES}
        for first, end in index.chunks():
            numbers = places.problems(np.arange(first, end))
            status, verdict = index.read("status", first, end), index.read("verdict", first, end)
            self._add(numbers, "drawn", status > 0)
            self._add(numbers, "judged", (verdict > 0) & (verdict < JUDGED))
            self._add(numbers, "right", verdict == 1)
            self._add(numbers, "tokens", index.read("tokens", first, end))
            self._add(numbers, "prompt_tokens", index.read("prompt_tokens", first, end))

    def _add(self, numbers: Slots, name: str, values: Array) -> None:
        added = np.bincount(numbers, values, minlength=len(self.sums[name]))
        self.sums[name] += added.astype(np.int64)

    def change(self, slots: Slots, old: dict[str, Array], new: dict[str, Array]) -> None:
        """Hear that rows are written."""
        numbers = self.places.problems(slots)
        for name, column, of in (
            ("drawn", "status", lambda values: (values > 0).astype(np.int64)),
            ("judged", "verdict", lambda values: ((values > 0) & (values < JUDGED)).astype(np.int64)),
            ("right", "verdict", lambda values: (values == 1).astype(np.int64)),
            ("tokens", "tokens", lambda values: values.astype(np.int64)),
            ("prompt_tokens", "prompt_tokens", lambda values: values.astype(np.int64)),
        ):
            if column in new:
                self._add(numbers, name, of(new[column]) - of(old[column]))


class Filler:
    """Keeps an index as the run's stores and snapshots have it.

    Attributes:
        done, total: rows read and to be read, of a look that goes on.
    """

    def __init__(
        self, root: Root, manifest: RunManifest, stage: str, index: Index, places: Places, busy: Callable[[], None]
    ) -> None:
        """Args:
        busy: called between pieces of work, so that others may look.
        """
        self.root, self.index, self.places, self.busy = root, index, places, busy
        self.done = self.total = 0
        records = {record.name: record for record in manifest.stages}
        self.samples = Followed(root, records[stage].path, Sample)
        self.stores: list[tuple[Followed, Callable[[pl.LazyFrame], None]]] = [(self.samples, self._fill_samples)]
        self.verdicts: Followed | None = None
        verdicts = [one for one in manifest.stages if one.dataset == "verdicts" and stage in one.inputs.values()]
        if verdicts and verdicts[-1].kind == "store":
            self.verdicts = Followed(root, verdicts[-1].path, Verdict)
            self.stores.append((self.verdicts, self._fill_verdicts))
        scored = [one for one in manifest.stages if one.dataset == "scores" and stage in one.inputs.values()]
        if scored and scored[-1].kind == "store":
            self.stores.append((Followed(root, scored[-1].path, Score), self._fill_scores))
        self.credit = not scored
        mine = [one for one in manifest.stages if one.kind == "snapshot" and reads(records, one, stage)]
        self.snapshots = [
            (one, fill)
            for dataset, fill in (("paths", self._fill_paths), ("sft", self._fill_sft))
            for one in mine
            if one.dataset == dataset
        ]
        self.tally = Tally(index, places)
        self._unread: set[str] = set()
        """Stores with files that couldn't be read when they were new (merged away at that moment, storage away)."""

    def look(self) -> bool:
        """Read what is new; return whether there was anything."""
        fresh: list[tuple[Followed, Callable[[pl.LazyFrame], None], list[tuple[str, int]]]] = []
        for store, fill in self.stores:
            if store.look() or store.folder in self._unread:
                known = set(self.index.taken.get(store.folder, []))
                there = list(store.files.select("name", "rows").iter_rows())
                if sum(rows for _, rows in there) < self.index.taken.get(f"{store.folder} rows", 0):
                    self._begin_again()  # rows were taken out: what is in the index can't tell which
                    return self.look_at_all()
                fresh.append((store, fill, [one for one in there if one[0] not in known]))
        return self._take(fresh) | self._take_snapshots()

    def look_at_all(self) -> bool:
        """Read everything."""
        fresh = [(store, fill, list(store.files.select("name", "rows").iter_rows())) for store, fill in self.stores]
        return self._take(fresh) | self._take_snapshots()

    def _begin_again(self) -> None:
        self.index.clear()
        self.tally = Tally(self.index, self.places)

    def _take(self, fresh: list[tuple[Followed, Callable[[pl.LazyFrame], None], list[tuple[str, int]]]]) -> bool:
        self.done, self.total = 0, sum(rows for _, _, files in fresh for _, rows in files)
        self._unread.update(store.folder for store, _, _ in fresh)
        for store, fill, files in fresh:
            for name, rows in files:
                table = scan_files(self.root, [self.root.uri(store.folder, name)], store.contract)
                for first in range(0, max(rows, 1), AT_ONCE):
                    fill(table.slice(first, AT_ONCE) if rows > AT_ONCE else table)
                    self.done += min(AT_ONCE, max(0, rows - first))
                    self.busy()
            self.index.taken[store.folder] = store.files["name"].to_list()
            self.index.taken[f"{store.folder} rows"] = int(store.files["rows"].sum())
            self._unread.discard(store.folder)
        return any(files for _, _, files in fresh)

    def _take_snapshots(self) -> bool:
        taken = False
        for record, fill in self.snapshots:
            if self.index.taken.get(record.path) is not None:
                continue
            found = read_snapshot(self.root, record.path)
            if found is None:
                continue
            for name in found.parts:
                fill(scan_files(self.root, [self.root.uri(record.path, name)], DATASETS[record.dataset]))
                self.busy()
            self.index.taken[record.path] = True
            taken = True
        return taken

    def _put(self, slots: Slots, values: dict[str, Array]) -> None:
        old = {name: self.index.at(name, slots) for name in values}
        self.index.write(slots, values)
        self.tally.change(slots, old, values)

    def _fill_samples(self, rows: pl.LazyFrame) -> None:
        found = self.places.of(rows.select("problem_key", "sample_index", *SAMPLE)).collect()
        values = {
            "status": fixed(found["status"], STATUS),
            "finish": named(self.index, "finish", found["finish_reason"]),
            "model": named(self.index, "model", found["worker"]),
            "tokens": counts(found["completion_tokens"]),
            "prompt_tokens": counts(found["prompt_tokens"]),
            "episode": (found["episode"].fill_null(-1) + 1).to_numpy().astype("u4"),
            "chosen": flags(found["chosen"]),
        }
        self._put(found["slot"].to_numpy(), values)

    def _fill_verdicts(self, rows: pl.LazyFrame) -> None:
        names = ("is_correct", "status", "answer_key", "credit")
        found = self.places.of(rows.select("problem_key", "sample_index", *names)).collect()
        right = pl.col("is_correct")
        code = (
            pl.when(right.is_null())
            .then(VERDICTS.index("unknown"))
            .when(right)
            .then(1)
            .when(pl.col("status").is_in(["unparseable", "timeout"]))
            .then(pl.when(pl.col("status") == "timeout").then(4).otherwise(3))
            .otherwise(2)
        )
        found = found.with_columns(code=code.cast(pl.UInt8))
        values = {"verdict": found["code"].to_numpy(), "answer": answers(found["answer_key"])}
        if self.credit:
            values["score"] = scores(found["credit"])
        self._put(found["slot"].to_numpy(), values)

    def _fill_scores(self, rows: pl.LazyFrame) -> None:
        found = self.places.of(rows.select("problem_key", "sample_index", "score")).collect()
        self._put(found["slot"].to_numpy(), {"score": scores(found["score"])})

    def _fill_paths(self, rows: pl.LazyFrame) -> None:
        wanted = PathRow.select("problem_key", "sample_index", "kept", "reason").names
        found = self.places.of(rows.select(wanted)).collect()
        why = pl.when("kept").then(pl.lit("kept")).otherwise(pl.col("reason").fill_null("no reason was kept"))
        why_not = named(self.index, "kept", found.select(why=why)["why"])
        self._put(found["slot"].to_numpy(), {"kept": why_not})

    def _fill_sft(self, rows: pl.LazyFrame) -> None:
        found = self.places.of(rows.select("problem_key", "sample_index")).collect()
        slots = found["slot"].to_numpy()
        self._put(slots, {"trained": np.full(len(slots), FLAGS.index("yes"), "u1")})


def reads(records: dict[str, StageRecord], record: StageRecord, stage: str) -> bool:
    """Whether a stage reads another, at first or at second hand."""
    inputs = [records[name] for name in record.inputs.values() if name in records]
    return any(one.name == stage or reads(records, one, stage) for one in inputs)


def places_of(root: Root, record: StageRecord) -> Places:
    """Return the places of a sampling stage's view."""
    if record.view is None or not root.exists(record.view):
        return Places(pl.DataFrame(schema={"problem_key": pl.String, "first": pl.Int64, "count": pl.Int64}))
    return Places(pl.read_parquet(io.BytesIO(root.read_bytes(record.view))))


def problem_names(root: Root, manifest: RunManifest, columns: tuple[str, ...]) -> Iterator[pl.LazyFrame]:
    """Yield what each stage of problems says of them."""
    for record in manifest.stages:
        if record.dataset == "problems":
            found = read_snapshot(root, record.path)
            if found is not None:
                files: list[Any] = [root.uri(record.path, name) for name in found.parts]
                yield scan_files(root, files, DATASETS["problems"]).select(columns)
