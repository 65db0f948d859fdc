"""A run from outside: how it is executed, who may watch it, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from schemas.manifest import RunManifest


class Observer(Protocol):
    """Watches a run."""

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        """Look at the records; ``live`` counts samples drawn but not committed yet, per sampling stage."""
        ...

    def say(self, text: str) -> None:
        """Hear of something that happened: waiting for another run, a worker lost, stopping."""
        ...


class Say(Protocol):
    """Tells people something that happened in a run, and notes it in the run's log."""

    def __call__(self, text: str, stage: str | None = None) -> None:
        """Say ``text``; ``stage`` is the stage that it is about, where it is about one."""
        ...


@dataclass
class RunResult:
    """What became of a run."""

    manifest: RunManifest
    root: Root

    def dataset(self, stage: str) -> pl.LazyFrame:
        """Return a stage's rows, restricted to this run's view."""
        return open_stage(self.root, self.manifest, stage)
