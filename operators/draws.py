"""Draws: which rows of samples, or of what is said about samples, are independent draws of a model.

A strategy's episode gives several rows that depend on one another: copies, siblings, what lost. One draw is the whole
episode, and stands for what it chose; an episode that is no draw like the others (a greedy one) stands for nothing, and
none of its rows is ``chosen``. Whatever counts draws, or takes rows as exchangeable, goes through ``draws``.
"""

from __future__ import annotations

from typing import TypeVar

from schemas.later import pl

Frame = TypeVar("Frame", "pl.DataFrame", "pl.LazyFrame")


def draws(rows: Frame) -> Frame:
    """Return the rows that are draws: all that are of no episode, and of each episode the one that it chose.

    Without a column ``chosen`` there are no episodes.
    """
    if "chosen" not in rows.lazy().collect_schema():
        return rows
    return rows.filter(pl.col("chosen").fill_null(True))
