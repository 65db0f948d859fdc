"""The order of work of several classes of jobs: they alternate, each as evenly as its size allows.

A mixture of experts is balanced for the mixture of jobs that it was planned for. Where all of one class run first, and
then all of another, every step is unbalanced, each in its own way; where classes alternate, each is like the whole.
What shares a prompt stays together: it is problems that alternate, not their samples.
"""

from __future__ import annotations

from typing import Literal

import polars as pl


def ordered(classes: pl.Series, order: Literal["alternate", "grouped"]) -> pl.Series:
    """Return the order in which items are sampled, as positions: classes in turn, or one after the other."""
    if order == "alternate":
        return interleaved(classes)
    table = pl.DataFrame({"class": classes}).with_row_index("at")
    table = table.with_columns(first=pl.col("at").min().over("class"))
    return table.sort("first", "at")["at"].cast(pl.Int64)


def interleaved(classes: pl.Series) -> pl.Series:
    """Return the order in which items alternate by class, as positions; items of one class keep theirs.

    The i-th of a class's n items has its turn at (i + 1/2) / n of the whole.
    """
    table = pl.DataFrame({"class": classes}).with_row_index("at")
    turn = (pl.int_range(pl.len()) + 0.5).over("class") / pl.len().over("class")
    return table.with_columns(turn=turn).sort("turn", "at")["at"].cast(pl.Int64)
