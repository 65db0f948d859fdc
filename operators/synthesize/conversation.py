"""Training rows as conversations: a problem's own turns, and what the model said."""

from __future__ import annotations

from typing import Literal

import polars as pl

from schemas.conversation import MORE, TURNS

Reasoning = Literal["tags", "drop"]
"""What becomes of reasoning that an engine returned apart: put before the answer in ``<think>`` tags, or left out."""


def turn(role: str, content: pl.Expr) -> pl.Expr:
    """Return a list of one turn."""
    more = [pl.lit(None, pl.String).alias(name) for name in MORE]
    return pl.concat_list(pl.struct(pl.lit(role).alias("role"), content.alias("content"), *more))


def asked(system: str | None) -> pl.Expr:
    """Return the turns that ask: ``system`` unless the problem's own messages bring one, then its messages or prompt.

    Reads ``messages`` and ``prompt``.
    """
    own = pl.col("messages").list.len().fill_null(0) > 0
    turns = pl.when(own).then("messages").otherwise(turn("user", pl.col("prompt")))
    if system is None:
        return turns
    brings = own & (pl.col("messages").list.first().struct.field("role") == "system").fill_null(False)
    first = pl.when(brings).then(pl.lit([], dtype=TURNS)).otherwise(turn("system", pl.lit(system)))
    return pl.concat_list(first, turns)


def said(reasoning: Reasoning = "tags", suffix: str = "") -> pl.Expr:
    """Return what the model said, as one text. Reads ``completion`` and ``reasoning``, both with ``suffix``."""
    completion, thought = pl.col(f"completion{suffix}"), pl.col(f"reasoning{suffix}").fill_null("")
    if reasoning == "drop":
        return completion
    tagged = pl.format("<think>\n{}\n</think>\n\n{}", thought.str.strip_chars(), completion)
    return pl.when(thought != "").then(tagged).otherwise(completion)
