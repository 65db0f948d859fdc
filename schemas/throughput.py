"""How fast an engine is on some hardware: what ``bench-engine`` measures and ``plan`` reads."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.prices import Prices


class Level(BaseModel):
    """One engine with a number of requests in flight, in the steady state; ranges are over the rounds.

    Attributes:
        completion_tokens_per_second: median over the rounds, with the lowest and the highest.
        requests: answered in all rounds.
        latency_seconds, latency_p95_seconds: median and 95th percentile over all requests.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    concurrency: int
    rounds: int
    requests: int
    completion_tokens_per_second: float
    low: float
    high: float
    prompt_tokens_per_second: float
    samples_per_second: float
    latency_seconds: float
    latency_p95_seconds: float


class ThroughputEntry(BaseModel):
    """One replica of an engine, measured: ``{root}/engines/{key}.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    revision: str
    family: str
    version: str
    hardware: str
    slots: int
    ranks: int
    gpus_per_rank: float
    measured: datetime
    max_tokens: int
    mean_prompt_tokens: float
    mean_completion_tokens: float
    levels: list[Level]
    prices: Prices = Prices()

    @property
    def best(self) -> Level:
        """The level with the most tokens a second: where a run keeps the engine."""
        return max(self.levels, key=lambda level: level.completion_tokens_per_second)
