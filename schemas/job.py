"""The job file: which pipeline, with which settings, where, on what and when. One YAML document.

It is data: nothing in it is evaluated, and the only code it can name is a class of an installed package. Values are
taken from the environment with ``${env:NAME}``; secrets never are, they are named and stay where they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.budget import Budget
from schemas.prices import Prices
from schemas.resources import NAME, Resources
from schemas.schedule import AnyNotice, ExportSpec, Retention, Schedule
from schemas.settings import Settings

MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
"""A shipped pipeline's name, or a module's."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""
Value = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""The value of an environment variable."""


class JobFile(Settings):
    """What ``gristmill run JOB.yaml`` reads."""

    pipeline: str = Field(pattern=MODULE)
    """A shipped pipeline's name, or a module of one's own."""
    name: str | None = Field(default=None, pattern=NAME, max_length=40)
    """The name under which its nights and submissions are kept; by default the pipeline's."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Nested as the pipeline's configuration is: ``sample: {n: 256}``."""
    root: str | None = None
    """Where everything is kept: a folder or an s3:// URL. All nodes of a cluster must reach it."""
    runner: Literal["ray", "local"] | None = None
    """Where work runs; by default on Ray."""
    address: str | None = None
    """A Ray cluster to join; by default Ray is started here."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first N problems."""
    run: dict[str, Any] = Field(default_factory=dict[str, Any])
    """How the run is executed, and its budget: see ``RunSettings``."""
    environment: dict[Variable, Value] = Field(default_factory=dict[str, str])
    """Variables that are set wherever the job runs; not for secrets."""
    secrets: dict[Variable, Value | None] = Field(default_factory=dict[str, str | None])
    """Variables that must be set where the job runs. On Kubernetes ``NAME: secret/key`` says which Secret has it."""
    resources: Resources = Resources()
    """What is requested from a cluster."""
    schedule: Schedule | None = None
    """When it runs by itself (``gristmill nightly``)."""
    notify: tuple[AnyNotice, ...] = ()
    """Who is notified, and of what."""
    retention: Retention | None = None
    """What ``gristmill gc`` keeps of its runs."""
    exports: tuple[ExportSpec, ...] = ()
    """What each night writes beside its record."""

    @property
    def title(self) -> str:
        """The name that its nights and submissions are kept under."""
        return self.name or self.pipeline.rpartition(".")[2].replace("_", "-").lower()


class RunSettings(Settings):
    """How a run is executed (``--set run.KEY=VALUE``, or ``run:`` in a job file). Nothing here changes a result."""

    limit: int | None = Field(default=None, ge=1)
    """Take only the first N problems."""
    shard: str | None = Field(default=None, pattern=r"^\d+/[1-9]\d*$")
    """``i/n``: take only the i-th (from 0) of n shares of the problems; a problem stays in its share."""
    order: Literal["alternate", "grouped"] = "alternate"
    """Problems of several task_types: in turn, so that every step of a mixture of experts is as even as the whole, or
    one type after the other, for engines with an expert plan of each (``gristmill moe evaluate`` says which is
    faster)."""
    without_runs: tuple[str, ...] = ()
    """Leave out problems that these runs finished."""
    job: str | None = None
    """What submitted this run (``gristmill submit``)."""
    command: str = ""
    """Recorded in the manifest: the command that makes the run again."""
    if_busy: Literal["refuse", "wait", "read"] = "refuse"
    """What to do if another run is writing the samples this one needs: stop, wait for it, or use what is there."""
    flush_seconds: float = Field(default=2.0, gt=0)
    """Samples are written at least this often, in seconds: a crash loses no more than that."""
    flush_rows: int = Field(default=8_000, ge=1)
    """A file of samples is written as soon as this many have been drawn, even before ``flush_seconds`` have passed."""
    commit_seconds: float = Field(default=0.5, ge=0)
    """Seconds between two commits; everything written in between becomes a fact together."""
    engine_restarts: int = Field(default=2, ge=0)
    """How often in a row a replica that died without having drawn anything is started again before the run ends."""
    lease_seconds: float = Field(default=60.0, gt=0)
    """After so many seconds without renewing its lease, a run may be taken over."""
    grace_seconds: float = Field(default=30.0, ge=0)
    """Seconds that work in flight has to finish after Ctrl-C or SIGTERM."""
    task_seconds: float = Field(default=600.0, gt=0)
    """If a task takes more seconds, its worker is killed, and the task is bisected to find the guilty rows."""
    wide_samples: int = Field(default=50_000_000, ge=0)
    """Dataset-scope operators that read more samples than this go through Ray Data, if the runner is Ray."""
    allow_unsafe_execution: bool = False
    """Run programs that a model wrote without a sandbox, with nothing but limits between them and this machine."""
    budget: Budget | None = None
    """Caps of what may be spent, and what the first samples must show."""
    prices: dict[str, Prices] = Field(default_factory=dict[str, Prices])
    """What models cost (``schemas.prices``); in a job file and with --set also the path of a YAML table."""
    stall_seconds: float = Field(default=300.0, gt=0)
    """A run that makes no progress for so many seconds says what it waits for; a known reason is told after 10 s."""
    turn_seconds: float = Field(default=900.0, gt=0)
    """Where engines take turns on the same GPUs: how many seconds one continues while another has work."""
