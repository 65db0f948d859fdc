"""The job file: which pipeline, with which settings, where and on what. One YAML document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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
