"""Problems that are held out: a problem's own key says on which side it is, so it is on the same in every run.

Nothing is drawn and nothing is written down. A problem that is held out at a share of .1 is so at .2, too; and other
problems may come or go without moving any.
"""

from __future__ import annotations

from typing import Literal

import xxhash

from schemas.later import pl

Part = Literal["all", "tuning", "holdout"]
_TOP = float(2**64)


def held_out(keys: pl.Series, share: float) -> pl.Series:
    """Return whether each problem is held out.

    Args:
        keys: what names the problems: ``problem_key``.
        share: of all problems, in [0, 1).
    """
    places = [xxhash.xxh64_intdigest(f"holdout/{key}".encode()) / _TOP for key in keys.to_list()]
    return pl.Series(keys.name, [place < share for place in places], dtype=pl.Boolean)


def part_of(table: pl.DataFrame, share: float, part: Part, key: str = "problem_key") -> pl.DataFrame:
    """Return the rows of one part of the problems."""
    if part == "all" or share <= 0.0:
        return table.clear() if part == "holdout" else table
    chosen = held_out(table[key], share)
    return table.filter(chosen if part == "holdout" else ~chosen)
