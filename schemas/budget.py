"""What a run may spend, and what it must show before it may spend the most of it."""

from __future__ import annotations

from pydantic import Field, model_validator

from schemas.settings import Settings

MOST = 10**15
"""Samples or tokens that a cap can be at most."""
MOST_OF_OTHERS = 10.0**9
"""Dollars or hours that a cap can be at most."""


class Gate(Settings):
    """What the first samples of a run must meet, or it stops and says why: money isn't spent on a broken prompt."""

    samples: int = Field(default=200, ge=1)
    """How many of the first samples are looked at."""
    least_parsed: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of verdicts that found an answer."""
    most_truncated: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of samples that were cut at max_tokens."""
    least_accepted: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of verdicts that are correct."""
    most_failed: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of samples that the engine refused."""


class Budget(Settings):
    """Caps of all that a run asks engines (``run.budget`` in a job file); None is no cap.

    ``samples``, ``tokens`` and ``dollars`` are hard: a request is only sent where its worst case (its prompt and
    max_tokens) still fits. They hold for everything spent on the same ``account`` under the same root, so a run that
    was killed and is started again doesn't begin anew. ``gpu_hours`` and ``hours`` are deadlines: when they have
    passed, nothing is sent any more and what runs is cancelled.
    """

    samples: int | None = Field(default=None, ge=1, le=MOST)
    """Most samples."""
    tokens: int | None = Field(default=None, ge=1, le=MOST)
    """Tokens of prompts (cached or not) and of completions together."""
    dollars: float | None = Field(default=None, gt=0.0, le=MOST_OF_OTHERS)
    """Most dollars, by ``run.prices``."""
    gpu_hours: float | None = Field(default=None, gt=0.0, le=MOST_OF_OTHERS)
    """A deadline: hours times GPUs held."""
    hours: float | None = Field(default=None, gt=0.0, le=MOST_OF_OTHERS)
    """Hours on the clock that each run may take."""
    keep: dict[str, float] = Field(default_factory=dict)
    """Share of the caps that is kept for a stage that asks an engine about whole problems (a transformation, a
    selection by a model), by the stage's name. For those that ask about each sample, money is kept by itself."""
    account: str = ""
    """What spending is added up under; by default the pipeline's name."""
    warn_at: float = Field(default=0.8, gt=0.0, le=1.0)
    """The share of a cap at which the run says so."""
    gate: Gate | None = None
    """What the first samples must show before the rest is paid for."""

    @property
    def is_capped(self) -> bool:
        """Whether there may be less than was asked for."""
        return any(cap is not None for cap in (self.samples, self.tokens, self.dollars, self.gpu_hours, self.hours))

    @model_validator(mode="after")
    def _says_something(self) -> Budget:
        if not self.is_capped and self.gate is None:
            raise ValueError("name a cap (samples, tokens, dollars, gpu_hours, hours) or a gate")
        return self
