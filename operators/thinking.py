"""Thinking aloud is no answer: which part of a completion is what the model says in the end.

Models put their thoughts in tags (``<think>``, ``[THINK]``, ...) or in channels of their own (``<|channel|>analysis``).
What stands inside them is never judged. A thought that isn't finished has no answer yet, whatever it holds: neither one
whose closing tag is missing, nor, where the prompt itself opened the thought, a text without any closing tag.
"""

from __future__ import annotations

import re
from functools import lru_cache

from schemas.later import pl

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),
    ("◁think▷", "◁/think▷"),
)
"""What opens and closes a thought; in any case of letters, those in ``<>`` with blanks or attributes too."""

_MESSAGE = "<|message|>"
_BRACKETS = ["<", "[", "◁"]
"""What all marks contain one of."""
_MARKS = [*(mark for pair in TAGS for mark in pair), _MESSAGE, "<|channel|>"]
_CLOSING = {closing.casefold().encode() for _, closing in TAGS}
_LENGTHS = {mark.casefold().encode(): len(mark.encode()) for pair in TAGS for mark in pair}
_LONGEST = max(_LENGTHS.values())
_QUOTES = b"\"'`"
_NAMES = "|".join(opening[1:-1] for opening, _ in TAGS if re.fullmatch(r"<[a-z:]+>", opening))
_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>/]+))*"""
_LOOSE_TAG = rf"(?i)(^|[^\"'`])<\s*(/?)\s*({_NAMES}){_ATTRIBUTES}\s*>"
_EMPTY_TAG = rf"(?i)(^|[^\"'`])<\s*(?:{_NAMES}){_ATTRIBUTES}\s*/\s*>"
_NO_PLAIN_TAG = rf"(?i)<\s*/?\s*(?:{_NAMES})[\s/]"
_END_OF_TURN = (
    r"(?:\s*(?:<\|(?:im_end|eot_id|eom_id|end|return|endoftext|end_of_text|end_of_turn)\|>|</s>|<eos>|<end_of_turn>|"
    r"<turn\|>|<\x{ff5c}end\x{2581}of\x{2581}sentence\x{ff5c}>))+\s*$"
)
"""What ends a turn, where it was recorded along with the text."""
_HEAD = re.compile(r"(?:^|<\|(?:start|channel|end|return|call)\|>)\s*([^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>")
"""What stands before a message in a channel; its group names the channel, or nobody but who speaks."""
_ANSWERS = re.compile(r"(?i)(?:assistant)?\s*(?:final\b.*)?", re.DOTALL)
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_ANALYSIS = r"^\s*(?:assistant)?(?:analysis|commentary)[A-Z\"'0-9(]"
"""How a text in channels begins where the marks between them weren't recorded."""
_BARE_FINAL = "assistantfinal"
_OPEN_AT_END = (
    rf"(?i)(?:{'|'.join(re.escape(opening) for opening, _ in TAGS)}|<\s*(?:{_NAMES}){_ATTRIBUTES}\s*>|"
    rf"<\|channel>\s*thought|<\|channel\|>\s*(?:analysis|commentary)\b[^<]*<\|message\|>)\s*$"
)


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt, with the beginning of the completion that it gives, ends inside a thought."""
    return _opens_thought(prompt[-200:])


@lru_cache(maxsize=1024)
def _opens_thought(end: str) -> bool:
    return re.search(_OPEN_AT_END, end) is not None


def answer_text(text: str, thought_open: bool = False) -> str | None:
    """Return what stands outside of thinking in one text, None where a thought isn't finished."""
    return answer_texts(pl.Series([text]), pl.Series([thought_open]))[0]


def answer_texts(texts: pl.Series, thought_open: pl.Series | None = None) -> pl.Series:
    """Return what stands outside of thinking in each text; null where a thought isn't finished.

    Args:
        thought_open: whether the prompt had opened a thought; null counts as no.
    """
    opened = pl.Series([False]).new_from_index(0, len(texts)) if thought_open is None else thought_open.fill_null(False)
    bare = texts.str.contains(_BARE_ANALYSIS) | texts.str.contains(_BARE_FINAL, literal=True)
    looked_at = (texts.str.contains_any(_BRACKETS) | opened | bare).fill_null(False).arg_true()
    if looked_at.is_empty():
        return texts
    some = _without_ends(texts.gather(looked_at))
    places = some.str.find_many(_MARKS, ascii_case_insensitive=True)
    concerned = (
        ((places.list.len() > 0) | opened.gather(looked_at) | bare.gather(looked_at)).fill_null(False).arg_true()
    )
    rows = zip(
        some.gather(concerned), places.gather(concerned), opened.gather(looked_at).gather(concerned), strict=True
    )
    # a loop over the few marks of each text that has some: what they mean depends on those before
    found = [_outside(text, marks.to_list(), inside) for text, marks, inside in rows]
    return texts.scatter(looked_at, some.scatter(concerned, pl.Series(found, dtype=pl.String)))


def _without_ends(texts: pl.Series) -> pl.Series:
    """Return texts with their tags written plainly, and without what ends a turn."""
    if texts.str.contains(_NO_PLAIN_TAG).any():
        texts = texts.str.replace_all(_EMPTY_TAG, "$1").str.replace_all(_LOOSE_TAG, "$1<$2$3>")
    return texts.str.replace(_END_OF_TURN, "")


def _outside(text: str, marks: list[int], inside: bool) -> str | None:
    """Return what stands outside of thinking.

    Args:
        marks: byte offsets of ``_MARKS``.
        inside: whether the text begins in a thought.
    """
    if _MESSAGE in text or "<|channel|>" in text:
        heads = [head for head in _HEAD.finditer(text) if not inside or head.start() or head[1]]
        finals = [head.end() for head in heads if _ANSWERS.fullmatch(head[1])]
        return _END_OF_MESSAGE.split(text[finals[-1] :])[0] if finals else None
    if re.match(_BARE_ANALYSIS, text) or (inside and _BARE_FINAL in text):
        return text.rpartition(_BARE_FINAL)[2] if _BARE_FINAL in text else None
    text = text.removeprefix(_BARE_FINAL)
    data, spoken, at, closed = text.encode(), list[bytes](), 0, False
    for start in marks:
        tag = _tag(data, start)
        if _quoted(data, start, start + _LENGTHS[tag]):
            continue  # text about tags: a program that strips them, say
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


def _quoted(data: bytes, start: int, end: int) -> bool:
    """Whether a tag stands in quotation marks of its own; a thought may end with one, or with a block of code."""
    return start > 0 and end < len(data) and data[start - 1] in _QUOTES and data[start - 1] == data[end]


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
