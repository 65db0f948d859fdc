"""What draws took: plain samples, and episodes of a strategy with all their calls, in one unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from operators.strategies.words import POLICY
from schemas.datasets import SAMPLE_KEY, Sample
from schemas.manifest import RunManifest
from schemas.prices import MICRO, Prices, dollars_by_role, priced_as

LENGTHS = Sample.select(*SAMPLE_KEY, "prompt_tokens", "completion_tokens", "status")
"""Of plain samples, what they cost."""
EPISODES = Sample.select(*SAMPLE_KEY, "chosen", "episode_facts", "status")
"""Of episodes, which row they stand for and what they cost."""


def prices_of_roles(manifest: RunManifest, stage: str, roles: Iterable[str]) -> dict[str, Prices]:
    """Return what a run's manifest says of the prices of a sampling stage's engine and of those of its other roles."""
    names = {POLICY: stage, **{role: priced_as(stage, role) for role in roles}}
    return {role: Prices.model_validate(manifest.prices.get(name, {})) for role, name in names.items()}


def costs_of_samples(samples: pl.DataFrame, prices: Mapping[str, Prices] | None) -> pl.DataFrame:
    """Return the cost of each sample that has a text: problem_key, sample_index, cost.

    Args:
        prices: of each role, for dollars; None for tokens.
    """
    rates = None if prices is None else prices[POLICY].rates
    read, written = (1.0, 1.0) if rates is None else (rates[0] / MICRO, rates[2] / MICRO)
    cost = pl.col("prompt_tokens") * read + pl.col("completion_tokens") * written
    return samples.filter(pl.col("status") == "ok").select(*SAMPLE_KEY, cost=cost.cast(pl.Float64))


def costs_of_episodes(samples: pl.DataFrame, prices: Mapping[str, Prices] | None) -> pl.DataFrame:
    """Return the cost of each episode, under its first row: problem_key, sample_index, cost.

    Args:
        prices: of each role, for dollars; None for tokens, those that were read to score texts among them.
    """
    told = samples.filter(pl.col("episode_facts").is_not_null())
    if prices is not None:
        roles = told["episode_facts"].str.json_path_match("$.roles")
        dollars = pl.Series([dollars_by_role(one, prices) for one in roles], dtype=pl.Float64)
        return told.select(*SAMPLE_KEY, cost=dollars).drop_nulls("cost")
    facts = pl.Struct(dict.fromkeys(("prompt_tokens", "completion_tokens", "scorer_tokens"), pl.Int64()))
    took = pl.col("episode_facts").str.json_decode(facts).struct
    cost = sum((took.field(name) for name in ("prompt_tokens", "completion_tokens", "scorer_tokens")), pl.lit(0))
    return told.select(*SAMPLE_KEY, cost=cost.cast(pl.Float64))
