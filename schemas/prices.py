"""What sampling costs: prices of an engine, with their units in their names. An unknown price is None, never zero.

A table of prices is YAML, from the models' names (or patterns such as ``gpt-4o*``) to ``Prices``:

    gpt-4o-mini:
      dollars_per_million_prompt_tokens: 0.15
      dollars_per_million_cached_prompt_tokens: 0.075
      dollars_per_million_completion_tokens: 0.6
    "Qwen/*":
      dollars_per_gpu_hour: 2.5
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydantic import Field

from schemas.settings import Settings

MICRO = 1_000_000


class Prices(Settings):
    """Prices of one engine: of tokens (an API), or of the GPUs that it holds (one's own hardware)."""

    dollars_per_million_prompt_tokens: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens read, where the engine's own cache didn't have them."""
    dollars_per_million_cached_prompt_tokens: float | None = Field(default=None, ge=0.0)
    """The price of all prompt tokens where it is None."""
    dollars_per_million_completion_tokens: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens written, reasoning included."""
    dollars_per_gpu_hour: float | None = Field(default=None, ge=0.0)
    """Dollars for an hour of each GPU that is held, working or waiting."""

    @property
    def per_token(self) -> float | None:
        """Dollars for a million completion tokens, where tokens are what is paid for."""
        return self.dollars_per_million_completion_tokens

    @property
    def rates(self) -> tuple[float, float, float] | None:
        """Microdollars of a fresh prompt token, a cached one and a completion token; None where they aren't known."""
        prompt, completion = self.dollars_per_million_prompt_tokens, self.per_token
        if prompt is None or completion is None:
            return None
        cached = self.dollars_per_million_cached_prompt_tokens
        return prompt, prompt if cached is None else cached, completion

    @property
    def known(self) -> bool:
        """Whether this says anything."""
        return self.rates is not None or (self.per_token is None and self.dollars_per_gpu_hour is not None)

    def microdollars(
        self, prompt_tokens: int, cached_prompt_tokens: int, completion_tokens: int, gpu_seconds: float
    ) -> int | None:
        """Return what this costs, in millionths of a dollar; None where no price is known.

        Dollars per million tokens are microdollars per token. Prompt tokens include the cached ones.
        """
        if self.rates is not None:
            prompt, cached, completion = self.rates
            fresh = prompt_tokens - cached_prompt_tokens
            return round(fresh * prompt + cached_prompt_tokens * cached + completion_tokens * completion)
        if self.per_token is None and self.dollars_per_gpu_hour is not None:
            return round(MICRO * gpu_seconds / 3600 * self.dollars_per_gpu_hour)
        return None


def priced_as(stage: str, role: str) -> str:
    """Return the name under which a run's manifest has the prices of the engine that plays a role for a stage."""
    return f"{stage}/{role}"


def dollars_by_role(told: str | None, prices: Mapping[str, Prices | None]) -> float | None:
    """Return what an episode cost; None where it doesn't tell, or the price of a role isn't known.

    Args:
        told: JSON, from roles to tokens read, those of them that were cached, and tokens written (column ``roles`` of
            the dataset ``episodes``).
        prices: of each role.
    """
    if told is None:
        return None
    found = 0.0
    for role, (prompt, cached, completion) in json.loads(told).items():
        known = prices.get(role)
        if known is None or known.rates is None:
            return None
        fresh, again, written = known.rates
        found += ((prompt - cached) * fresh + cached * again + completion * written) / MICRO
    return found


def price_of(model: str, table: Mapping[str, Prices]) -> Prices | None:
    """Return the prices of a model: under its name, else under the longest pattern that fits it; None where unknown."""
    if model in table:
        return table[model]
    fitting = [pattern for pattern in table if fnmatchcase(model, pattern)]
    return table[max(fitting, key=len)] if fitting else None
