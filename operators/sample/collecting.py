"""Episodes as a table: how each ended and what it took, of what its first row says."""

from __future__ import annotations

from typing import ClassVar

from operators.base import Operator
from schemas.contract import polars_schema
from schemas.datasets import Sample
from schemas.episodes import Episode
from schemas.later import pl

NUMBERS = (
    *("finals", "calls", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
    *("scorer_passes", "scorer_tokens", "lineages", "distinct_texts"),
)


class CollectEpisodes(Operator):
    """Make one row of each episode of a strategy; samples of no episode give none."""

    version: ClassVar[int] = 2
    scope = "problem"
    inputs = {
        "samples": Sample.select("problem_key", "sample_index", "problem_id", "episode", "slot", "episode_facts"),
    }
    output = Episode

    def run(self, samples: pl.DataFrame) -> pl.DataFrame:
        key = ["problem_key", "episode"]
        played = samples.filter(pl.col("episode").is_not_null()).sort(*key, "slot")
        episodes = played.group_by(key, maintain_order=True).agg(
            pl.col("problem_id").first(),
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("sample_index").min().alias("first"),
            pl.col("episode_facts").drop_nulls().first().alias("facts"),
        )

        def said(name: str) -> pl.Expr:
            return pl.col("facts").str.json_path_match(f"$.{name}")

        told = episodes.filter(pl.col("facts").is_not_null()).with_columns(
            *[said(name).cast(pl.Int64).alias(name) for name in NUMBERS],
            *[said(name).alias(name) for name in ("strategy", "ended_by", "note", "roles")],
            chosen=pl.col("first") + said("chosen").cast(pl.Int64, strict=False),
            oracle=said("oracle") == "true",
        )
        return told.select(list(polars_schema(Episode)))
