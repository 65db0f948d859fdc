"""Run manifests: writing them while a run goes on, reading them back, opening a stage's rows from one.

A run's folder holds its manifest, the views it froze (which index ranges of which problems, one file a store stage),
the heartbeat that says it is alive, and, where rows had to be left out, ``quarantine.jsonl``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import platform
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
from deltalake.exceptions import TableNotFoundError

from cluster.storage.lease import Lease, read_lease, write_lease
from cluster.storage.ranges import as_table, restrict
from cluster.storage.root import Root
from cluster.storage.snapshot import MANIFEST
from cluster.storage.store import scan_store
from pipelines.graph import Pipeline
from schemas import __version__
from schemas.contract import polars_schema
from schemas.datasets import DATASETS
from schemas.errors import BadInput, StorageFull
from schemas.job import RunSettings
from schemas.manifest import RunManifest, SnapshotManifest, StageRecord
from schemas.redaction import redact

if TYPE_CHECKING:
    from cluster.planning.plan import RunPlan  # which reads earlier runs to know what a new one takes

HEARTBEAT = "heartbeat.json"
QUARANTINE = "quarantine.jsonl"
BALLAST = "ballast"
BALLAST_BYTES = 512 * 1024
"""Space that a run keeps on a local disk, so that its last manifest can be written when the disk is full."""

RECORDED = ("ray", "polars", "deltalake", "pyarrow", "xllamacpp", "math-verify", "reasoning-gym")


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

    def begin(self, plan: RunPlan) -> None:
        """Freeze the views of the run and write the first manifest."""
        self.manifest.problem_view = plan.problem_view
        self.manifest.n_problems = len(plan.problems)
        if self.root.is_local:
            self.root.write_bytes(bytes(BALLAST_BYTES), self.folder, BALLAST)
        for record in self.manifest.stages:
            stage = plan.stages[record.name]
            if stage.store is not None:
                record.view = f"{self.folder}/views/{record.name}.parquet"
                buffer = io.BytesIO()
                as_table(stage.ranges).write_parquet(buffer)
                self.root.write_bytes(buffer.getvalue(), record.view)
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
        fresh = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.root.write_bytes(old + redact(fresh).encode(), self.folder, QUARANTINE)


def alive(root: Root, run_id: str) -> bool:
    """Whether a run's driver is still at work."""
    lease = read_lease(root, f"runs/{run_id}", HEARTBEAT)
    return lease is not None and lease.alive()


def write_manifest(root: Root, manifest: RunManifest) -> None:
    root.write_bytes(redact(manifest.model_dump_json(indent=2)).encode(), "runs", manifest.run_id, MANIFEST)


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


def manifests(root: Root) -> Iterator[RunManifest]:
    """Yield the manifests of all runs under the root, newest first."""
    found = [RunManifest.model_validate(document) for _, document in root.json_documents("runs", MANIFEST)]
    yield from sorted(found, key=lambda manifest: manifest.started, reverse=True)


def find_run(root: Root, name: str) -> RunManifest:
    """Return the manifest of a run by its id, an unambiguous beginning of it, or ``latest``.

    Raises:
        BadInput: no such run, or several.
    """
    return find_runs(root, [name])[0]


def find_runs(root: Root, names: Iterable[str]) -> list[RunManifest]:
    """Return the manifests of several runs, by what ``find_run`` takes; they are read once.

    Raises:
        BadInput: of one there is no such run, or several.
    """
    known = list(manifests(root))
    if not known:
        raise BadInput(f"there are no runs under '{root.url}'; start one with: gristmill run arithmetic")
    return [_match(known, name) for name in names]


def _match(known: list[RunManifest], name: str) -> RunManifest:
    if name == "latest":
        return known[0]
    found = [manifest for manifest in known if manifest.run_id == name] or [
        manifest for manifest in known if manifest.run_id.startswith(name)
    ]
    if len(found) != 1:
        ids = ", ".join(manifest.run_id for manifest in (found or known)[:5])
        raise BadInput(f"{'several runs begin' if found else 'no run begins'} with '{name}'; for example: {ids}")
    return found[0]


def open_stage(root: Root, manifest: RunManifest, stage: str) -> pl.LazyFrame:
    """Return a stage's rows as a lazy scan: of a store, the rows of this run's problems and indices only.

    A stage that has no rows yet gives an empty frame.

    Raises:
        BadInput: the run has no such stage.
    """
    record = next((record for record in manifest.stages if record.name == stage), None)
    if record is None:
        raise BadInput(f"run {manifest.run_id} has no stage '{stage}'; it has {[r.name for r in manifest.stages]}")
    if record.kind == "snapshot":
        if not root.exists(record.path, MANIFEST):
            return _empty(record)
        parts = SnapshotManifest.model_validate_json(root.read_bytes(record.path, MANIFEST)).parts
        return pl.scan_parquet([root.uri(record.path, name) for name in parts], storage_options=root.storage_options())
    try:
        rows = scan_store(root, record.path, DATASETS[record.dataset])
    except TableNotFoundError:
        return _empty(record)
    assert record.view is not None
    return restrict(rows, pl.read_parquet(io.BytesIO(root.read_bytes(record.view))))


def last_stage(manifest: RunManifest, dataset: str) -> str | None:
    """Return the name of the last stage of a run that gives a dataset; None where it has none."""
    return next((record.name for record in reversed(manifest.stages) if record.dataset == dataset), None)


def _empty(record: StageRecord) -> pl.LazyFrame:
    contract = DATASETS.get(record.dataset)
    return pl.LazyFrame(schema=polars_schema(contract) if contract else None)


__all__ = ["RunRecorder", "alive", "find_run", "last_stage", "manifests", "open_stage", "write_manifest"]
