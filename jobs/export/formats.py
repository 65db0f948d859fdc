"""The layouts that trainers read. Each has one dataset it is made from, and its rows are one for one that dataset's.

``messages``, ``prompt-completion``, ``preference`` and ``step-rewards`` are TRL's (SFTTrainer, DPOTrainer, PRMTrainer);
ShareGPT's and Alpaca's are those of the data sets of these names. Every row keeps ``problem_id`` and ``lineage``, and
``tools`` where a row has some. What a format has no place for is refused, not left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from jobs.export.turns import calls_as_text
from operators.synthesize.conversation import CLOSING_TAG, OPENING_TAG
from schemas.conversation import MORE

Format = Literal["messages", "prompt-completion", "preference", "step-rewards", "sharegpt", "alpaca"]
Reasoning = Literal["tags", "open", "field", "drop"]
"""Where thinking goes: it stays in its tags; it stays without the opening one, in the last turn (``open``: for models
whose chat template opens the thought itself); it moves to a field ``reasoning_content``; or it is left out."""

SPAN = pl.Struct({"start": pl.Int64, "end": pl.Int64})
THINKING = rf"(?s)^\s*{OPENING_TAG}(.*?){CLOSING_TAG}\s*"
OPENING = rf"^\s*{OPENING_TAG}[ \t]*\n?"


@dataclass(frozen=True)
class Layout:
    """A format.

    Attributes:
        dataset: what it is made of.
        of: from that dataset's rows to the format's.
        task: the task category of the dataset hub.
    """

    dataset: str
    of: Callable[[pl.LazyFrame, Reasoning], pl.LazyFrame]
    task: str = "text-generation"
    lacks: frozenset[str] = frozenset()
    """Of ``schemas.conversation.MORE`` and ``tools``, what it has no place for."""


def _turns(column: str, reasoning: Reasoning) -> pl.Expr:
    """Return a list of turns with the reasoning of the assistant's where it is wanted."""
    turns = pl.col(column)
    if reasoning == "tags":
        return turns
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    if reasoning == "open":
        opened = pl.when(role == "assistant").then(content.str.replace(OPENING, "")).otherwise(content)
        last = turns.list.tail(1).list.eval(pl.element().struct.with_fields(opened.alias("content")))
        return turns.list.head(turns.list.len() - 1).list.concat(last)
    plain = pl.when(role == "assistant").then(content.str.replace(THINKING, "")).otherwise(content)
    fields = [plain.alias("content")]
    if reasoning == "field":
        thought = pl.when(role == "assistant").then(content.str.extract(THINKING).str.strip_chars())
        fields.append(thought.alias("reasoning_content"))
    return turns.list.eval(pl.element().struct.with_fields(fields))


def _thinking(reasoning: Reasoning) -> pl.Expr:
    """Return where in the last turn's text the thinking is, tags included, so that a trainer can mask it.

    A list of [start, end) in characters: one span, or none.
    """
    said = pl.col("messages").list.last().struct.field("content")
    space = said.str.extract(r"(?s)^(\s*)").str.len_chars().cast(pl.Int64)
    whole = said.str.extract(rf"(?s)^(\s*{OPENING_TAG}.*?{CLOSING_TAG})").str.len_chars().cast(pl.Int64)
    if reasoning == "open":
        space, whole = pl.lit(0, pl.Int64), whole - said.str.extract(f"({OPENING})").str.len_chars().cast(pl.Int64)
    span = pl.concat_list(pl.struct(space.alias("start"), whole.alias("end")))
    there = whole.is_not_null() & pl.lit(reasoning in ("tags", "open"))
    return pl.when(there).then(span).otherwise(pl.lit([], dtype=pl.List(SPAN))).alias("thinking")


def _tools(rows: pl.LazyFrame) -> list[str]:
    return [name for name in ("tools",) if name in rows.collect_schema()]


def _messages(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    """With ``thinking``: the spans of the last turn that a trainer may want to mask."""
    turns = _turns("messages", reasoning)
    return rows.select(turns, *_tools(rows), _thinking(reasoning), "problem_id", "sample_index", "score", "lineage")


def _prompt_completion(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    turns = _turns("messages", reasoning)
    before = turns.list.head(turns.list.len() - 1).alias("prompt")
    after = turns.list.tail(1).alias("completion")
    about = (_thinking(reasoning), "problem_id", "sample_index", "score", "lineage")
    return rows.select(before, after, *_tools(rows), *about)


def _preference(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    sides = [_turns(name, reasoning).alias(name) for name in ("chosen", "rejected")]
    return rows.select("prompt", *sides, *_tools(rows), "margin", "problem_id", "lineage")


def _step_rewards(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    return rows.select("prompt", "completions", "labels", "problem_id", "sample_index")


def _sharegpt(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    """An assistant's calls are a turn of their own (``function_call``), what tools answer is an ``observation``."""
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    names = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
    turns = pl.concat_list(pl.struct(role.replace(names).alias("from"), content.alias("value")))
    rows = rows.with_columns(_turns("messages", "tags" if reasoning == "field" else reasoning))
    if "tool_calls" in _fields(rows):
        calls = pl.element().struct.field("tool_calls")
        called = pl.concat_list(pl.struct(pl.lit("function_call").alias("from"), calls_as_text(calls).alias("value")))
        silent = calls.is_not_null() & (content == "")
        turns = (
            pl.when(silent).then(called).when(calls.is_not_null()).then(pl.concat_list(turns, called)).otherwise(turns)
        )
    said = pl.col("messages").list.eval(turns).list.eval(pl.element().explode())
    return rows.select(said.alias("conversations"), *_tools(rows), "problem_id", "lineage")


def _fields(rows: pl.LazyFrame) -> list[str]:
    turns: Any = rows.collect_schema()["messages"]
    return [field.name for field in turns.inner.fields]


def _alpaca(rows: pl.LazyFrame, reasoning: Reasoning) -> pl.LazyFrame:
    """One exchange: the last question and its answer; what was said before is ``history``, as pairs."""
    rows = rows.with_columns(_turns("messages", "tags" if reasoning == "field" else reasoning))
    role, content = (pl.element().struct.field(name) for name in ("role", "content"))
    said = pl.col("messages")
    asked = said.list.eval(content.filter(role == "user"))
    answered = said.list.eval(content.filter(role == "assistant"))
    told = said.list.eval(content.filter(role == "system"))
    return (
        rows.with_columns(asked=asked, answered=answered, system=told.list.join("\n\n").fill_null(""))
        .with_columns(
            history=pl.struct(
                pl.col("asked").list.head(pl.col("asked").list.len() - 1),
                pl.col("answered").list.head(pl.col("answered").list.len() - 1),
            ).map_elements(_pairs, return_dtype=pl.List(pl.List(pl.String)))
        )
        .select(
            instruction=pl.col("asked").list.last().fill_null(""),
            input=pl.lit(""),
            output=pl.col("answered").list.last().fill_null(""),
            system="system",
            history="history",
            problem_id="problem_id",
            lineage="lineage",
        )
    )


def _pairs(turns: dict[str, list[str]]) -> list[list[str]]:
    return [list(pair) for pair in zip(turns["asked"], turns["answered"], strict=False)]


FORMATS: dict[Format, Layout] = {
    "messages": Layout("sft", _messages),
    "prompt-completion": Layout("sft", _prompt_completion),
    "preference": Layout("preferences", _preference),
    "step-rewards": Layout("step_rewards", _step_rewards, task="token-classification"),
    "sharegpt": Layout("sft", _sharegpt, lacks=frozenset({"name", "parts"})),
    "alpaca": Layout("sft", _alpaca, lacks=frozenset({*MORE, "tools"})),
}
