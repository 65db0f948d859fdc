"""Run manifests: writing them while a run goes on.

A run's folder holds its manifest, the views it froze (which index ranges of which problems, one file a store stage),
the heartbeat that says it is alive, and, where rows had to be left out, ``quarantine.jsonl``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.records.reader import HEARTBEAT
from cluster.storage.documents import MANIFEST
from cluster.storage.lease import Lease, write_lease
from cluster.storage.root import Root
from pipelines.graph import Pipeline
from schemas import __version__
from schemas.errors import StorageFull
from schemas.job import RunSettings
from schemas.manifest import RunManifest
from schemas.redaction import redacted

QUARANTINE = "quarantine.jsonl"
BALLAST = "ballast"
BALLAST_BYTES = 512 * 1024
"""Space that a run keeps on a local disk, so that its last manifest can be written when the disk is full."""

RECORDED = ("ray", "polars", "deltalake", "pyarrow", "xllamacpp", "cyllama", "math-verify", "reasoning-gym")


class RunRecorder:
    """Owns one run's manifest: ``runs/{run_id}/manifest.json``."""

    def __init__(self, root: Root, pipeline: Pipeline, runner: str, settings: RunSettings) -> None:
        self.root = root
        now = datetime.now(UTC)
        self.manifest = RunManifest(
            run_id=f"{pipeline.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            pipeline=pipeline.name,
            state="running",
            started=now,
            command=settings.command,
            job=settings.job,
            runner=runner,
            config=_config(pipeline),
            versions=_versions(),
        )

    @property
    def folder(self) -> str:
        return f"runs/{self.manifest.run_id}"

    def write(self) -> None:
        """Write the manifest; on a full disk, in the place that was kept for it."""
        try:
            write_manifest(self.root, self.manifest)
        except StorageFull:
            self.root.remove(self.folder, BALLAST)
            write_manifest(self.root, self.manifest)

    def show(self) -> None:
        """Write how far the run is, for others to see; not in the place that is kept for the last manifest."""
        with contextlib.suppress(StorageFull):
            write_manifest(self.root, self.manifest)

    def begin(self, problem_view: str, n_problems: int, views: Mapping[str, Iterable[pl.DataFrame]]) -> None:
        """Freeze the views of the run and write the first manifest.

        Args:
            views: of each stage whose rows are in a store, which of them are this run's: tables of keyed ranges.
        """
        self.manifest.problem_view = problem_view
        self.manifest.n_problems = n_problems
        if self.root.is_local:
            self.root.write_bytes(bytes(BALLAST_BYTES), self.folder, BALLAST)
        for record in self.manifest.stages:
            if record.name in views:
                record.view = f"{self.folder}/views/{record.name}.parquet"
                self.root.write_bytes(_as_parquet(views[record.name]), record.view)
        self.write()

    def beat(self, seconds: float) -> None:
        """Say that the run is alive for as many seconds."""
        write_lease(self.root, self.folder, Lease.of(self.manifest.run_id, 0, seconds), HEARTBEAT)

    def end(self) -> None:
        """Write the last manifest; the run is alive no more."""
        self.write()
        self.root.remove(self.folder, HEARTBEAT)
        self.root.remove(self.folder, BALLAST)

    def quarantine(self, rows: list[dict[str, Any]]) -> None:
        """Add rows that were left out, with what was wrong with them."""
        old = self.root.read_bytes(self.folder, QUARANTINE) if self.root.exists(self.folder, QUARANTINE) else b""
        fresh = "".join(json.dumps(redacted(row), ensure_ascii=False) + "\n" for row in rows)
        self.root.write_bytes(old + fresh.encode(), self.folder, QUARANTINE)

    def take_up(self, stage: str, key: str) -> None:
        """Take a problem's rows of one stage off the list of what was left out: they are made after all."""
        if not self.root.exists(self.folder, QUARANTINE):
            return
        lines = self.root.read_bytes(self.folder, QUARANTINE).decode().splitlines(keepends=True)
        rows = [(line, json.loads(line)) for line in lines]
        left = [line for line, row in rows if (row["stage"], row["problem_key"]) != (stage, key)]
        self.root.write_bytes("".join(left).encode(), self.folder, QUARANTINE)


def _as_parquet(tables: Iterable[pl.DataFrame]) -> bytes:
    """Return tables of keyed ranges as one Parquet file."""
    schema = pa.schema([("problem_key", pa.large_string()), ("first", pa.int64()), ("count", pa.int64())])
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))
    return stream.getvalue().to_pybytes()


def write_manifest(root: Root, manifest: RunManifest) -> None:
    document = redacted(manifest.model_dump(mode="json"))
    root.write_bytes(json.dumps(document, indent=2, ensure_ascii=False).encode(), "runs", manifest.run_id, MANIFEST)


def _config(pipeline: Pipeline) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, stage in pipeline.stages.items():
        config[name] = {"operator": stage.operator.public_name(), **stage.operator.model_dump(mode="json")}
        if stage.engine is not None:
            config[name]["engine"] = stage.engine.model_dump(mode="json")
    return config


def _versions() -> dict[str, str]:
    found = {"gristmill": __version__, "python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
