"""Full-text search: the texts are read some thousand at a time, and what is found is told at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

import polars as pl

from jobs.view.filters import Filter
from jobs.view.index import Index, Slots
from schemas.errors import BadInput

MOST = 1_000
"""Hits that are told; then the search ends."""
AROUND = 90
"""Characters on each side of what was found."""


class Searched(Protocol):
    """What has texts to be searched."""

    def pieces(self) -> Iterator[pl.DataFrame]: ...

    def lines(self, slots: Slots) -> list[dict[str, Any]]: ...


def search(samples: Searched, index: Index, wanted: Filter, text: str, regex: bool) -> Iterator[dict[str, Any]]:
    """Yield {"hits": [...], "searched": rows} again and again, and in the end {"done": true, ...}.

    Args:
        regex: whether ``text`` is a regular expression; else it is searched as it is. Case never matters.

    Raises:
        BadInput: not a regular expression.
    """
    pattern = f"(?i){text if regex else pl.escape_regex(text)}"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise BadInput(f"that isn't a regular expression: {text}") from error
    searched = found = 0
    told = time.monotonic()
    for piece in samples.pieces():
        searched += len(piece)
        hits = _hits(piece, pattern)
        hits = hits.filter(pl.Series(wanted.at(index, hits["slot"].to_numpy()), dtype=pl.Boolean))
        if len(hits):
            some = hits.head(MOST - found)
            lines = samples.lines(some["slot"].to_numpy())
            found += len(some)
            yield {
                "hits": [{**line, "text": around} for line, around in zip(lines, some["around"], strict=True)],
                "searched": searched,
            }
            told = time.monotonic()
        elif time.monotonic() - told > 0.3:
            told = time.monotonic()
            yield {"hits": [], "searched": searched}
        if found >= MOST:
            break
    yield {"hits": [], "searched": searched, "done": True, "more": found >= MOST}


def _hits(piece: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Return slot and what is around the first match of each text that has one; in linear time, whatever is asked."""
    shown = f"(?s)(.{{0,{AROUND}}}(?:{pattern}).{{0,{AROUND}}})"
    texts = [pl.col(name).fill_null("") for name in ("completion", "reasoning")]
    there = piece.filter(pl.any_horizontal(text.str.contains(pattern) for text in texts))
    return there.select("slot", around=pl.coalesce(text.str.extract(shown, 1) for text in texts))
