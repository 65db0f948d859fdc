"""A store: append-only facts about samples, one Delta table, never two values for one key.

Workers write parts; the driver commits them in groups. The first commit of a key wins: every commit carries the next
number of one Delta application transaction, so of two writers that didn't see each other's work the second one's
commit fails by protocol; it then reads what was added, drops the keys that are already there, and tries again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from cluster.storage.arrow import arrow_schema
from cluster.storage.parts import Part, write_part
from cluster.storage.ranges import Range, RangeMap, as_table, ranges_by_file, restrict
from cluster.storage.root import Root
from schemas import __version__
from schemas.contract import Contract
from schemas.datasets import SCHEMA_VERSION
from schemas.errors import BadInput, GristmillError

WRITER = "gristmill"
"""The Delta application id whose transaction number orders all commits of a store."""


class Store:
    """The rows of one contract under one identity.

    Attributes:
        held: the keys that are committed.
        files: file name -> the ranges in it.
    """

    def __init__(self, root: Root, folder: str, contract: type[Contract], fingerprint: dict[str, Any]) -> None:
        self.root = root
        self.folder = folder
        self.contract = contract
        self.fingerprint = fingerprint
        self.held = RangeMap()
        self.files: dict[str, list[Range]] = {}
        self._files_of: dict[str, set[str]] = {}
        self._table: DeltaTable | None = None
        self._sequence = 0
        self._news: list[Range] = []
        try:
            self._table = DeltaTable(self.uri, storage_options=root.storage_options() or None)
        except TableNotFoundError:
            return
        self._check_version()
        self._read_new_files()

    @property
    def uri(self) -> str:
        return self.root.uri(self.folder)

    def create(self) -> None:
        """Make the table if it isn't there (another writer may make it at the same time)."""
        if self._table is not None:
            return
        about = {"identity": self.fingerprint, "schema_version": SCHEMA_VERSION, "gristmill": __version__}
        self._table = DeltaTable.create(
            self.uri,
            arrow_schema(self.contract),
            mode="ignore",
            name=self.folder.split("/")[0],
            description=json.dumps(about, sort_keys=True),
            configuration={"delta.checkpointInterval": "100"},
            storage_options=self.root.storage_options() or None,
        )
        self._read_new_files()

    def _check_version(self) -> None:
        assert self._table is not None
        about = json.loads(self._table.metadata().description or "{}")
        if about.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise BadInput(
                f"store '{self.folder}' has schema version {about['schema_version']}, this Gristmill writes "
                f"{SCHEMA_VERSION}: use the version that made it ({about.get('gristmill')}) or another root"
            )

    def _read_new_files(self) -> None:
        """Learn the keys of committed files this writer doesn't know yet."""
        assert self._table is not None
        self._sequence = self._table.transaction_version(WRITER) or 0
        present = {uri.rsplit("/", 1)[-1] for uri in self._table.file_uris()}
        fresh = sorted(present - self.files.keys())
        if not fresh:
            return
        keys = pl.scan_parquet(
            [self.root.uri(self.folder, name) for name in fresh],
            include_file_paths="file",
            storage_options=self.root.storage_options() or None,
        ).select("file", "problem_key", "sample_index")
        for file, ranges in ranges_by_file(keys).items():
            self._remember(file.rsplit("/", 1)[-1], ranges)

    def _remember(self, name: str, ranges: Iterable[Range]) -> None:
        self.files[name] = list(ranges)
        self._news += self.files[name]
        for item in self.files[name]:
            self.held.add(item)
            self._files_of.setdefault(item.problem_key, set()).add(name)

    def take_news(self) -> list[Range]:
        """Return the ranges that became facts since the last call, whoever committed them."""
        news, self._news = self._news, []
        return news

    def commit(self, parts: list[Part]) -> list[Part]:
        """Commit parts as one transaction; return what was committed of them.

        Keys that are already in the store are dropped first: a part that overlaps is written again without them.

        Raises:
            GristmillError: other writers kept winning.
        """
        self.create()
        assert self._table is not None
        for _ in range(20):
            parts = self._without_held(parts)
            if not parts:
                return []
            now = int(time.time() * 1000)
            actions: list[AddAction | RemoveAction] = [
                AddAction(part.name, part.size, {}, now, True, part.stats) for part in parts
            ]
            mark = CommitProperties(app_transactions=[Transaction(WRITER, self._sequence + 1)], max_commit_retries=0)
            try:
                self._table.create_write_transaction(
                    actions, mode="append", schema=arrow_schema(self.contract), commit_properties=mark
                )
            except CommitFailedError:
                self._table.update_incremental()
                self._read_new_files()
                continue
            self._table.update_incremental()
            self._sequence += 1
            for part in parts:
                self._remember(part.name, part.ranges)
            return parts
        raise GristmillError(f"store '{self.folder}': other writers won 20 commits in a row; try again later")

    def _without_held(self, parts: list[Part]) -> list[Part]:
        """Cut from each part the keys that the store, or an earlier part of this commit, already has."""
        kept: list[Part] = []
        seen = RangeMap()
        for part in parts:
            fresh = [gap for item in part.ranges for gap in self.held.missing(item)]
            fresh = [gap for item in fresh for gap in seen.missing(item)]
            if sum(item.size for item in fresh) < part.rows:
                part = self._rewrite(part, fresh)
            if part.rows:
                kept.append(part)
            for item in part.ranges:
                seen.add(item)
        return kept

    def _rewrite(self, part: Part, wanted: list[Range]) -> Part:
        if not wanted:
            return Part(part.name, 0, 0, "{}")
        rows = pl.scan_parquet(
            self.root.uri(self.folder, part.name), storage_options=self.root.storage_options() or None
        )
        table = restrict(rows, as_table(wanted)).collect()
        return write_part(self.root, self.folder, table, self.contract, self.folder)

    def files_with(self, ranges: Iterable[Range]) -> list[str]:
        """Return the names of the files that hold any key of ``ranges``."""
        found: set[str] = set()
        for wanted in ranges:
            for name in self._files_of.get(wanted.problem_key, ()):
                if name not in found and any(_overlap(item, wanted) for item in self.files[name]):
                    found.add(name)
        return sorted(found)


def _overlap(one: Range, other: Range) -> bool:
    same = one.problem_key == other.problem_key
    return same and one.first < other.first + other.size and other.first < one.first + one.size


def stored_identities(root: Root, kind: str) -> dict[str, dict[str, Any]]:
    """Return store id -> identity of all sample stores under the root (``kind`` = "samples")."""
    found: dict[str, dict[str, Any]] = {}
    for name in root.list(kind):
        try:
            table = DeltaTable(root.uri(kind, name), storage_options=root.storage_options() or None)
        except TableNotFoundError:
            continue
        found[name] = json.loads(table.metadata().description or "{}").get("identity", {})
    return found
