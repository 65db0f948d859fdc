"""Training rows as conversations: a problem's own turns, and what the model said."""

from __future__ import annotations

import re
from typing import Literal

from operators.thinking import TAGS, answer_texts
from schemas.conversation import MORE, turns_dtype
from schemas.later import pl

Reasoning = Literal["tags", "drop"]
"""What becomes of the model's thinking: it stands before the answer in ``<think>`` tags (those of its own where it
wrote some), or is left out. Where the prompt had opened the thought, the opening tag is put back, so that a row says
where its thought begins and ends; ``export`` moves it to where a trainer wants it."""


_OPENS = {closing.lower(): opening for opening, closing in TAGS}
OPENING_TAG, CLOSING_TAG = ("(?i:" + "|".join(map(re.escape, tags)) + ")" for tags in zip(*TAGS, strict=True))
_CLOSED = rf"(?s)^(?<thought>(?:.*?[^\"'`])??)(?<closing>{CLOSING_TAG})\s*(?<answer>.*)$"
"""A text up to its first closing tag, that tag, and what is behind it."""


def turn(role: str, content: pl.Expr, tool_calls: pl.Expr | None = None) -> pl.Expr:
    """Return a list of one turn."""
    more = {name: pl.lit(None, pl.String) for name in MORE}
    if tool_calls is not None:
        more["tool_calls"] = tool_calls
    fields = [value.alias(name) for name, value in more.items()]
    return pl.concat_list(pl.struct(pl.lit(role).alias("role"), content.alias("content"), *fields))


def asked(system: str | None) -> pl.Expr:
    """Return the turns that ask: ``system`` unless the problem's own messages bring one, then its messages or prompt.

    A last turn of the assistant's is the beginning of the answer (``said``). Reads ``messages`` and ``prompt``.
    """
    own = pl.col("messages").list.len().fill_null(0) > 0
    before = pl.col("messages").list.head(pl.col("messages").list.len() - _leads().cast(pl.UInt32))
    turns = pl.when(own).then(before).otherwise(turn("user", pl.col("prompt")))
    if system is None:
        return turns
    brings = own & (pl.col("messages").list.first().struct.field("role") == "system").fill_null(False)
    first = pl.when(brings).then(pl.lit([], dtype=turns_dtype())).otherwise(turn("system", pl.lit(system)))
    return pl.concat_list(first, turns)


def _leads() -> pl.Expr:
    return (pl.col("messages").list.last().struct.field("role") == "assistant").fill_null(False)


def said(rows: pl.DataFrame, reasoning: Reasoning = "tags", suffix: str = "") -> pl.Series:
    """Return what the model said, as one text each.

    Reads ``messages``, and ``completion``, ``reasoning`` and ``thought_open``, these with ``suffix``.
    """
    begun = pl.when(_leads()).then(pl.col("messages").list.last().struct.field("content")).otherwise(pl.lit(""))
    told = [pl.col(f"{name}{suffix}").alias(name) for name in ("completion", "reasoning", "thought_open")]
    table = rows.select(*told, begun=begun).with_columns(closed=pl.col("completion").str.extract_groups(_CLOSED))
    thought, answer = (pl.col("closed").struct.field(name).fill_null("") for name in ("thought", "answer"))
    closing = pl.col("closed").struct.field("closing").str.to_lowercase()
    reopened = closing.is_not_null() & ~thought.str.contains(OPENING_TAG)
    before = pl.col("begun").str.replace(rf"{OPENING_TAG}\s*$", "")
    apart = pl.col("reasoning").fill_null("").str.strip_chars()
    if reasoning == "drop":
        led = pl.col("thought_open").fill_null(False) | ((pl.col("begun") != before) & (apart == ""))
        outside = answer_texts(table["completion"], table.select(led).to_series()).str.strip_chars_start("\r\n")
        return table.select(before + pl.coalesce(outside, "completion")).to_series()
    opening = closing.replace_strict(_OPENS, default=None, return_dtype=pl.String)
    whole = pl.format("{}\n{}\n{}\n\n{}", opening, thought.str.strip_chars(), pl.col("closed").struct[1], answer)
    tagged = pl.format("<think>\n{}\n</think>\n\n{}", apart, pl.col("completion"))
    text = pl.when(apart != "").then(before + tagged).when(reopened).then(before + whole)
    return table.select(text.otherwise(pl.col("begun") + pl.col("completion"))).to_series()


def balanced(text: pl.Expr) -> pl.Expr:
    """Whether a text closes as many thoughts as it opens; one more where its first tag closes what its prompt opened.

    Tags in quotes are only talked about.
    """
    opened, closed = (
        text.str.count_matches(tag) - text.str.count_matches(f"[\"'`]{tag}") for tag in (OPENING_TAG, CLOSING_TAG)
    )
    first = text.str.extract_groups(_CLOSED).struct
    reopened = first.field("closing").is_not_null() & ~first.field("thought").str.contains(OPENING_TAG)
    return closed == opened + reopened.fill_null(False)
