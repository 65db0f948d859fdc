"""Particle filtering over steps (Puri et al. 2025)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.strategies.filtering import Filter, Logs
from schemas.settings import Settings


class Anneal(Settings):
    """A temperature that goes from ``start`` to ``end`` in equal steps over ``rounds``."""

    start: float = Field(gt=0.0)
    """The temperature of the first round."""
    end: float = Field(gt=0.0)
    """The temperature from round ``rounds`` on."""
    rounds: int = Field(ge=1)
    """Rounds that the change takes."""

    def at(self, step: int) -> float:
        """Return the temperature after a step, counted from 1."""
        if step >= self.rounds:
            return self.end
        return self.start + (self.end - self.start) * (step - 1) / (self.rounds - 1)


class Particles(Filter):
    """Write ``width`` paths a step at a time, and draw them anew by the odds of what the scorer says so far."""

    version: ClassVar[int] = 1

    tau: float = Field(default=1.0, gt=0.0)
    """The temperature of the weights: they are odds to the power of 1/tau."""
    anneal: Anneal | None = None
    """A temperature that changes from round to round, instead of ``tau``."""

    def tau_at(self, step: int, logs: Logs) -> float:
        return self.tau if self.anneal is None else self.anneal.at(step)
