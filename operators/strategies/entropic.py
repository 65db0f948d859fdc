"""Particle filtering whose early rounds are warmer where few particles have all the weight (its_hub)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from operators.strategies.filtering import Filter, Logs
from operators.strategies.weighing import ess, shares_of


class Entropic(Filter):
    """Keep a filter from settling on one path too soon: raise the temperature of its weights while it is early.

    As its_hub has it; but for two particles too the entropy is over its largest value.
    """

    version: ClassVar[int] = 1

    resampling: Literal["multinomial", "systematic"] = "systematic"
    """How paths are drawn anew: each by itself, or at equal distances from one random start, which varies less."""
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weights are made warmer where their effective sample size is below this share of the particles."""
    early: float = Field(default=0.5, ge=0.0, le=1.0)
    """The share of ``rule.max_steps`` after which they aren't."""
    by: Literal["ess", "entropy", "base"] = "ess"
    """What says how much warmer: the effective sample size, the entropy of the weights, or the step alone."""

    def tau_at(self, step: int, logs: Logs) -> float:
        shares = shares_of(logs)
        if shares is None or len(shares) < 2:
            return 1.0
        progress, ratio = step / self.rule.max_steps, ess(shares) / len(shares)
        if ratio >= self.threshold or progress >= self.early:
            return 1.0
        if self.by == "base":
            return 2.0 - progress
        if self.by == "ess":
            return max(1.0, (1.0 - progress) / ratio)
        entropy = -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares))
        return max(1.0, 1.0 / (entropy + (1.0 - entropy) * progress))
