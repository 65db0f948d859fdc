"""Run manifests: writing them while a run goes on, reading them back, opening a stage's rows from one."""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cluster.plan import RunPlan
from cluster.storage.root import Root
from cluster.storage.snapshot import MANIFEST
from schemas import __version__
from schemas.contract import polars_schema
from schemas.datasets import DATASETS
from schemas.errors import BadInput
from schemas.manifest import RunManifest, SnapshotManifest, StageRecord

RECORDED = ("ray", "polars", "deltalake", "pyarrow", "xllamacpp", "math-verify", "reasoning-gym")


class RunRecorder:
    """Owns one run's manifest: ``runs/{run_id}/manifest.json``."""

    def __init__(self, root: Root, plan: RunPlan, runner: str, command: str) -> None:
        self.root = root
        now = datetime.now(UTC)
        self.manifest = RunManifest(
            run_id=f"{plan.pipeline.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            pipeline=plan.pipeline.name,
            state="running",
            started=now,
            command=command,
            runner=runner,
            config=_config(plan),
            versions=_versions(),
            problem_view=plan.problem_view,
            n_problems=len(plan.problems),
        )

    def write(self) -> None:
        write_manifest(self.root, self.manifest)


def write_manifest(root: Root, manifest: RunManifest) -> None:
    root.write_bytes(manifest.model_dump_json(indent=2).encode(), "runs", manifest.run_id, MANIFEST)


def _config(plan: RunPlan) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, stage_plan in plan.stages.items():
        stage = stage_plan.stage
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
    known = list(manifests(root))
    if not known:
        raise BadInput(f"there are no runs under '{root.url}'; start one with: gristmill run arithmetic")
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
    options = root.storage_options() or None
    if record.kind == "snapshot":
        if not root.exists(record.path, MANIFEST):
            return _empty(record)
        parts = SnapshotManifest.model_validate_json(root.read_bytes(record.path, MANIFEST)).parts
        return pl.scan_parquet([root.uri(record.path, name) for name in parts], storage_options=options)
    try:
        table = DeltaTable(root.uri(record.path), storage_options=options)
    except TableNotFoundError:
        return _empty(record)
    source = manifest.stages[0]
    problems = open_stage(root, manifest, source.name).select("problem_key")
    n = record.planned // max(1, manifest.n_problems)
    rows = pl.scan_delta(table)
    return rows.filter(pl.col("sample_index") < n).join(problems, on="problem_key", how="semi")


def _empty(record: StageRecord) -> pl.LazyFrame:
    contract = DATASETS.get(record.dataset)
    return pl.LazyFrame(schema=polars_schema(contract) if contract else None)


__all__ = ["RunRecorder", "find_run", "manifests", "open_stage", "write_manifest"]
