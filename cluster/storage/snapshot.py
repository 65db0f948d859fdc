"""A snapshot: the immutable result of an operator on a view, as Parquet parts and a manifest.

Parts are written under the view's final address; the manifest, written last, makes them whole. A part that the
manifest doesn't name does not exist. An incomplete snapshot is simply written again: it is cheap, and the same view
gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl

from cluster.storage.documents import MANIFEST, read_snapshot
from cluster.storage.parts import Part, write_part, write_tables
from cluster.storage.root import Root
from schemas import __version__
from schemas.contract import Contract
from schemas.datasets import SCHEMA_VERSION
from schemas.manifest import SnapshotManifest
from schemas.redaction import redacted

PART_BYTES = 2**26
"""How much one part holds, in memory, where rows are many."""


class Snapshot:
    """The parts of one view of one stage."""

    def __init__(self, root: Root, stage: str, view_id: str, contract: type[Contract]) -> None:
        self.root = root
        self.stage = stage
        self.view_id = view_id
        self.contract = contract
        self.folder = f"snapshots/{stage}/{view_id}"

    def manifest(self) -> SnapshotManifest | None:
        """Return the manifest, or None where the snapshot isn't complete (or its manifest is damaged)."""
        return read_snapshot(self.root, self.folder)

    def part_uri(self, index: int) -> str:
        return self.root.uri(self.folder, part_name(index))

    def write(self, index: int, table: pl.DataFrame) -> Part:
        """Write one part, replacing an earlier attempt at it."""
        return write_part(
            self.root,
            self.folder,
            table,
            self.contract,
            self.stage,
            name=part_name(index),
            metadata={"view_id": self.view_id},
        )

    def write_in_order(self, tables: Iterable[pl.DataFrame]) -> dict[str, int]:
        """Write validated rows that come in the order of their keys as parts of a middling size; return part -> rows.

        Only one part is in memory at a time, and of a part on a local disk only one table.
        """
        written: dict[str, int] = {}
        waiting = iter(tables)
        while (group := _Group(waiting)).begun:
            name = part_name(len(written))
            metadata = {"view_id": self.view_id}
            write_tables(self.root, self.folder, name, group, self.contract, metadata)
            written[name] = group.rows
        return written

    def finish(self, parts: dict[str, int], operator: dict[str, Any], inputs: dict[str, str]) -> None:
        """Write the manifest: from now on the snapshot exists."""
        manifest = SnapshotManifest(
            view_id=self.view_id,
            stage=self.stage,
            operator=redacted(operator),
            inputs=inputs,
            schema_version=SCHEMA_VERSION,
            gristmill=__version__,
            contract=self.contract.__name__,
            parts=dict(sorted(parts.items())),
            rows=sum(parts.values()),
            created=datetime.now(UTC),
        )
        self.root.write_bytes(manifest.model_dump_json(indent=2).encode(), self.folder, MANIFEST)


class _Group:
    """The next few of some tables: as many as make a part."""

    def __init__(self, tables: Iterator[pl.DataFrame]) -> None:
        self._tables = tables
        self._next = next(tables, None)
        self.begun = self._next is not None
        self.rows = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        size = 0
        while self._next is not None:
            self.rows += len(self._next)
            size += int(self._next.estimated_size())
            yield self._next
            self._next = next(self._tables, None) if size < PART_BYTES else None


def part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"
