"""A snapshot: the immutable result of an operator on a view, as Parquet parts and a manifest.

Parts are written under the view's final address; the manifest, written last, makes them whole. A part that the
manifest doesn't name does not exist. An incomplete snapshot is simply written again: it is cheap, and the same view
gives the same rows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl

from cluster.storage.documents import read_document
from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from schemas import __version__
from schemas.contract import Contract
from schemas.datasets import SCHEMA_VERSION
from schemas.manifest import SnapshotManifest

MANIFEST = "manifest.json"


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

    def finish(self, parts: dict[str, int], operator: dict[str, Any], inputs: dict[str, str]) -> None:
        """Write the manifest: from now on the snapshot exists."""
        manifest = SnapshotManifest(
            view_id=self.view_id,
            stage=self.stage,
            operator=operator,
            inputs=inputs,
            schema_version=SCHEMA_VERSION,
            gristmill=__version__,
            contract=self.contract.__name__,
            parts=dict(sorted(parts.items())),
            rows=sum(parts.values()),
            created=datetime.now(UTC),
        )
        self.root.write_bytes(manifest.model_dump_json(indent=2).encode(), self.folder, MANIFEST)


def read_snapshot(root: Root, folder: str) -> SnapshotManifest | None:
    """Return a snapshot's manifest; None where there is none, or where it is damaged, which is told of."""
    if not root.exists(folder, MANIFEST):
        return None
    remedy = "It is a result that can be made again: the command of its run does that by itself"
    return read_document(root, SnapshotManifest, remedy, folder, MANIFEST)


def part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"
