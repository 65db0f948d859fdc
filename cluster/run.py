"""A run from outside: how it is executed, who may watch it, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from cluster.records import open_stage
from cluster.storage.root import Root
from schemas.manifest import RunManifest


@dataclass(frozen=True)
class RunSettings:
    """How a run is executed; nothing here changes a result."""

    limit: int | None = None
    """Take only the first so many problems."""
    flush_seconds: float = 10.0
    """Samples are written at least this often: what a crash can cost."""
    flush_rows: int = 20_000
    commit_seconds: float = 1.0
    command: str = ""
    """Recorded in the manifest: the command that makes the run again."""
    engine_restarts: int = 2
    """How often a replica that died is started again before the run ends."""


class Observer(Protocol):
    """Watches a run."""

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        """Look at the records; ``live`` counts samples drawn but not committed yet, per sampling stage."""
        ...


@dataclass
class RunResult:
    """What became of a run."""

    manifest: RunManifest
    root: Root

    def dataset(self, stage: str) -> pl.LazyFrame:
        """Return a stage's rows, restricted to this run's view."""
        return open_stage(self.root, self.manifest, stage)
