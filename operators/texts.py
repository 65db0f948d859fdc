"""Texts of some samples out of many, read a few megabytes at a time.

An operator that chooses by numbers and then takes the texts of what it chose declares its samples ``lazy``: it reads
the numbers of all samples (``without_texts``) and the texts of those it wants (``with_texts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.datasets import SAMPLE_KEY
from schemas.later import pl

TOKENS_AT_ONCE = 2**22
"""Texts are read for stretches of samples that have so many tokens together, some 16 MB."""
TOKENS_OF_ONE = 32
"""Counted for each sample beside its tokens: its other columns take memory, too."""


def without_texts(samples: pl.LazyFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return some columns of all samples (those of ``names`` that are there), sorted by their keys."""
    there = samples.collect_schema()
    return samples.select(name for name in names if name in there).collect().sort(SAMPLE_KEY)


def with_texts(
    samples: pl.LazyFrame, rows: pl.DataFrame, wanted: pl.Expr, texts: Sequence[str], along: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """Yield the texts of the wanted samples, in order of their keys, a table of some at a time.

    Args:
        samples: all samples, with their texts; files that are sorted by key are read once.
        rows: all samples as ``without_texts`` returned them, or some of them in that order, with ``completion_tokens``.
        wanted: which of ``rows``.
        texts: which columns to read, beside the keys.
        along: columns of ``rows`` that come along.
    """
    weight = pl.col("completion_tokens").fill_null(0) + TOKENS_OF_ONE
    some = rows.lazy().select(*SAMPLE_KEY, *along, stretch=weight.cum_sum() // TOKENS_AT_ONCE, wanted=wanted)
    stretches = some.filter("wanted").drop("wanted").collect()
    for keys in stretches.partition_by("stretch", maintain_order=True, include_key=False):
        low, high = keys["problem_key"][0], keys["problem_key"][-1]
        near = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))
        if low == high:  # of one problem not all samples may be near
            near = near & pl.col("sample_index").is_between(keys["sample_index"][0], keys["sample_index"][-1])
        found = samples.filter(near).select(*SAMPLE_KEY, *texts).join(keys.lazy(), on=SAMPLE_KEY)
        yield found.collect(engine="streaming").sort(SAMPLE_KEY)


def texts_of(samples: pl.LazyFrame, rows: pl.DataFrame, wanted: pl.Expr, texts: Sequence[str]) -> pl.DataFrame:
    """Return the texts of the wanted samples in one table; arguments as ``with_texts`` has them."""
    nothing = samples.select(*SAMPLE_KEY, *texts).head(0).collect()
    return pl.concat([nothing, *with_texts(samples, rows, wanted, texts)])


def among(keys: pl.DataFrame) -> pl.Expr:
    """Return which rows' keys are in a table of few."""
    return pl.struct(SAMPLE_KEY).is_in(keys.select(pl.struct(SAMPLE_KEY)).to_series().implode())
