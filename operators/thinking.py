"""Thinking aloud is no answer: which part of a completion is what the model says in the end.

Models put their thoughts in tags (``<think>``, ``[THINK]``, ...) or in channels of their own (``<|channel|>analysis``).
What stands inside them is never judged. A thought that isn't finished has no answer yet, whatever it holds: neither one
whose closing tag is missing, nor, where the prompt itself opened the thought, a text without any closing tag.
"""

from __future__ import annotations

import re

import polars as pl

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
)
"""What opens and closes a thought; in any case of letters."""

_CHANNEL = "<|channel|>"
_MARKS = [*(mark for pair in TAGS for mark in pair), _CHANNEL]
_CLOSING = {closing.casefold().encode() for _, closing in TAGS}
_LENGTHS = {mark.casefold().encode(): len(mark.encode()) for pair in TAGS for mark in pair}
_LONGEST = max(_LENGTHS.values())
_QUOTES = b"\"'`"
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.IGNORECASE)
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_OPEN_AT_END = "(?i)(?:{}|<\\|channel\\|>\\s*(?:analysis|commentary)\\b[^<]*<\\|message\\|>)\\s*$".format(
    "|".join(re.escape(opening) for opening, _ in TAGS)
)


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt, with the beginning of the completion that it gives, ends inside a thought."""
    return re.search(_OPEN_AT_END, prompt[-200:]) is not None


def answer_text(text: str, thought_open: bool = False) -> str | None:
    """Return what stands outside of thinking in one text, None where a thought isn't finished."""
    return answer_texts(pl.Series([text]), pl.Series([thought_open]))[0]


def answer_texts(texts: pl.Series, thought_open: pl.Series | None = None) -> pl.Series:
    """Return what stands outside of thinking in each text; null where a thought isn't finished.

    Args:
        thought_open: whether the prompt had opened a thought; null counts as no.
    """
    opened = pl.Series([False]).new_from_index(0, len(texts)) if thought_open is None else thought_open.fill_null(False)
    places = texts.str.find_many(_MARKS, ascii_case_insensitive=True)
    concerned = ((places.list.len() > 0) | opened).fill_null(False).arg_true()
    if concerned.is_empty():
        return texts
    rows = zip(texts.gather(concerned), places.gather(concerned), opened.gather(concerned), strict=True)
    # a loop over the few marks of each text that has some: what they mean depends on those before
    found = [_outside(text, marks.to_list(), inside) for text, marks, inside in rows]
    return texts.scatter(concerned, pl.Series(found, dtype=pl.String))


def _outside(text: str, marks: list[int], inside: bool) -> str | None:
    """Return what stands outside of thinking.

    Args:
        marks: byte offsets of ``_MARKS``.
        inside: whether the text begins in a thought.
    """
    if _CHANNEL in text:
        finals = list(_FINAL.finditer(text))
        return _END_OF_MESSAGE.split(text[finals[-1].end() :])[0] if finals else None
    data, spoken, at, closed = text.encode(), list[bytes](), 0, False
    for start in marks:
        if start and data[start - 1] in _QUOTES:
            continue  # text about tags: a program that strips them, say
        tag = _tag(data, start)
        if tag not in _CLOSING:
            if not inside:
                spoken.append(data[at:start])
            inside = True
            continue
        end = start + _LENGTHS[tag]
        if not inside:
            if closed and not data[end:].strip():
                continue  # one closing tag too many, behind the answer
            spoken.clear()  # only the closing tag: the prompt had opened the thought
        inside, closed, at = False, True, end
    if inside:
        return None
    return b"\n".join([*spoken, data[at:]]).decode()


def _tag(data: bytes, start: int) -> bytes:
    rest = data[start : start + _LONGEST].decode(errors="ignore").casefold().encode()
    return next(tag for tag in _LENGTHS if rest.startswith(tag))


def answers_only(samples: pl.DataFrame, problems: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return samples whose ``completion`` is what stands outside of thinking, "" where a thought isn't finished.

    Every verifier judges these. Whether the prompt opened a thought is told by ``samples.thought_open``, or by the
    ``messages`` of ``problems`` (a last turn of the assistant's that opens one), where these columns are there.
    """
    opened = pl.lit(False)
    if problems is not None and problems.schema.get("messages", pl.Null()) != pl.Null:
        led = problems.filter(_leads_into_thought(pl.col("messages")))["problem_key"]
        opened = pl.col("problem_key").is_in(led.to_list())
    if "thought_open" in samples.columns:
        opened = pl.coalesce("thought_open", opened)
    texts = samples.select("completion", opened=opened).with_row_index("at")
    distinct = texts.group_by("completion", "opened").agg("at")
    said = answer_texts(distinct["completion"], distinct["opened"]).fill_null("")
    answers = distinct.select("at", completion=said).explode("at").sort("at")["completion"]
    judged = samples.with_columns(completion=answers)
    # what was said is outside of any thought: a second look at these rows changes nothing
    return judged.with_columns(thought_open=pl.lit(False)) if "thought_open" in samples.columns else judged


def _leads_into_thought(messages: pl.Expr) -> pl.Expr:
    last = messages.list.last().struct
    return ((last.field("role") == "assistant") & last.field("content").str.contains(_OPEN_AT_END)).fill_null(False)
