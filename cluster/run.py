"""A run from outside: how it is executed, who may watch it, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from cluster.records import open_stage
from cluster.storage.lease import LEASE_SECONDS
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
    """How often in a row a replica that died without having drawn anything is started again before the run ends."""
    if_busy: Literal["refuse", "wait", "read"] = "refuse"
    """What to do where another run is writing the samples this one needs: end, wait for it, or take what is there."""
    lease_seconds: float = LEASE_SECONDS
    """A run that doesn't renew its lease for so long may be taken over."""
    grace_seconds: float = 30.0
    """After Ctrl-C or SIGTERM: how long what is in flight may take to finish."""
    task_seconds: float = 600.0
    """A task that takes longer has its worker killed, and is cut in two to find the guilty rows."""
    wide_samples: int = 50_000_000
    """Dataset-scope operators that read more samples go through Ray Data, where the runner is Ray."""


class Observer(Protocol):
    """Watches a run."""

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        """Look at the records; ``live`` counts samples drawn but not committed yet, per sampling stage."""
        ...

    def say(self, text: str) -> None:
        """Hear of something that happened: waiting for another run, a worker lost, stopping."""
        ...


@dataclass
class RunResult:
    """What became of a run."""

    manifest: RunManifest
    root: Root

    def dataset(self, stage: str) -> pl.LazyFrame:
        """Return a stage's rows, restricted to this run's view."""
        return open_stage(self.root, self.manifest, stage)
