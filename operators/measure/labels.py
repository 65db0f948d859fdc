"""Labels that were asked for: which samples they stand for."""

from __future__ import annotations

import polars as pl

from schemas.datasets import SAMPLE_KEY


def with_chances(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the labels that were given, with the probability by which their samples were chosen.

    Args:
        labels: of all rounds together; ``is_correct`` is null where nobody has labelled yet.

    Returns:
        problem_key, sample_index, right, stratum and chance: the share of the stratum that is labelled.
    """
    given = labels.filter(pl.col("is_correct").is_not_null()).unique(SAMPLE_KEY, keep="last", maintain_order=True)
    size = pl.col("stratum_size").max().over("stratum")
    chance = (pl.len().over("stratum") / size).clip(upper_bound=1.0)
    return given.select(*SAMPLE_KEY, "stratum", right="is_correct", chance=chance)
