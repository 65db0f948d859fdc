"""The job file: which pipeline, with which settings, where and on what. One YAML document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.budget import Budget
from schemas.prices import Prices


class JobFile(BaseModel):
    """What ``gristmill run JOB.yaml`` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    """A shipped pipeline's name, or a module of one's own."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Nested as the pipeline's configuration is: ``sample: {n: 256}``."""
    root: str | None = None
    runner: Literal["ray", "local"] | None = None
    address: str | None = None
    limit: int | None = Field(default=None, ge=1)
    run: dict[str, Any] = Field(default_factory=dict[str, Any])
    """How it is executed: see ``RunSettings``."""


class RunSettings(BaseModel):
    """How a run is executed (``--set run.KEY=VALUE``, or ``run:`` in a job file). Nothing here changes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many problems."""
    command: str = ""
    """Recorded in the manifest: the command that makes the run again."""
    if_busy: Literal["refuse", "wait", "read"] = "refuse"
    """What to do where another run is writing the samples this one needs: end, wait for it, or take what is there."""
    flush_seconds: float = Field(default=2.0, gt=0)
    """Samples are written at least this often: what a crash can cost."""
    flush_rows: int = Field(default=20_000, ge=1)
    """And whenever so many were drawn."""
    commit_seconds: float = Field(default=0.5, ge=0)
    """What was written becomes a fact in groups, this often."""
    engine_restarts: int = Field(default=2, ge=0)
    """How often in a row a replica that died without having drawn anything is started again before the run ends."""
    lease_seconds: float = Field(default=60.0, gt=0)
    """A run that doesn't renew its lease for so long may be taken over."""
    grace_seconds: float = Field(default=30.0, ge=0)
    """After Ctrl-C or SIGTERM: how long what is in flight may take to finish."""
    task_seconds: float = Field(default=600.0, gt=0)
    """A task that takes longer has its worker killed, and is cut in two to find the guilty rows."""
    wide_samples: int = Field(default=50_000_000, ge=0)
    """Dataset-scope operators that read more samples go through Ray Data, where the runner is Ray."""
    allow_unsafe_execution: bool = False
    """Run programs that a model wrote without a sandbox, with nothing but limits between them and this machine."""
    budget: Budget | None = None
    """Caps of what may be spent, and what the first samples must show."""
    prices: dict[str, Prices] = Field(default_factory=dict[str, Prices])
    """What models cost (``schemas.prices``); in a job file and with --set also the path of a YAML table."""
    turn_seconds: float = Field(default=900.0, gt=0)
    """Where engines take turns on the same GPUs: how long one goes on while another has something to do."""
