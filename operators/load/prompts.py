"""What the model is asked: a column, several put together, or a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from operators.load.checks import Notes
from operators.load.names import Names
from operators.load.rows import Rows
from operators.load.turns import prompts_of, read_turns, without_answers
from schemas.conversation import Turn
from schemas.errors import BadInput
from schemas.later import pl

_TEXTS = "prompt, as text"
"""The column of what is text where a column of prompts holds texts and conversations."""


@dataclass
class Prompts:
    """What all rows ask.

    Attributes:
        text: the question as text, of a conversation the user's last turn.
        messages: conversations, where the source has them.
        cut: what the assistant had said at their end, by row from 0.
    """

    text: pl.Series
    messages: pl.Series | None
    cut: dict[int, list[Turn]]


def read_prompts(rows: Rows, names: Names, source: str, continue_last: bool, notes: Notes) -> Prompts:
    """Return what the rows ask.

    Raises:
        BadInput: a prompt that is neither text nor a conversation, or a conversation that asks nothing; with its row.
    """
    prompt: tuple[str, ...] = names.prompt
    talk = names.messages
    if len(prompt) == 1:
        rows = _singly(rows, prompt[0], source)
    if len(prompt) == 1 and _talks(rows, prompt[0]):
        rows, talk, prompt = _apart(rows, prompt[0])
    text = _text(rows, (*([names.context] if names.context else []), *prompt), source) if prompt else None
    if talk is None:
        assert text is not None
        return Prompts(text, None, {})
    own = None if text is None else rows.texts(prompt[0], source)
    asked = without_answers(read_turns(rows, talk, source), own, source, talk, continue_last, notes)
    said = prompts_of(asked.messages)
    if text is not None:  # some rows may have a prompt, and others a conversation alone
        bare = (text.is_null() | (text.str.strip_chars() == "")) & asked.messages.is_not_null()
        said = said.zip_with(bare, text)
    return Prompts(said, asked.messages, asked.cut)


def _singly(rows: Rows, column: str, source: str) -> Rows:
    """Return rows whose prompts are lists of one text each with these texts.

    Raises:
        BadInput: a list of several texts: questions that are to be asked one after the other; with its row.
    """
    if not rows.is_nested(column) or not _lists_texts(rows.first(column)):
        return rows
    texts: list[Any] = []
    for number, value in enumerate(rows.values(column), 1):
        if _lists_texts(value) and len(value) > 1:
            raise BadInput(
                f"'{source}', row {number}: '{column}' holds {len(value)} questions, to be asked one after the other; "
                "a problem is asked once. Write a row for each, with what is said before it in messages"
            )
        texts.append(value[0] if _lists_texts(value) else value)
    if not all(text is None or isinstance(text, str) for text in texts):
        return rows
    return rows.with_columns(pl.Series(column, texts, dtype=pl.String))


def _lists_texts(value: Any) -> bool:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(items) and all(isinstance(text, str) for text in items)


def _talks(rows: Rows, column: str) -> bool:
    """Whether a column of prompts holds conversations, as structs or as their JSON."""
    if rows.is_nested(column):
        return True
    if column in rows.objects or rows.table.schema[column] != pl.String:
        return False
    there = rows.table[column].drop_nulls()
    shape = r'^\s*\[\s*\{\s*["\'](?:role|content|from|value)["\']\s*:'
    return len(there) > 0 and bool(there.head(1).str.contains(shape)[0]) and bool(there.str.contains(shape).all())


def _apart(rows: Rows, column: str) -> tuple[Rows, str, tuple[str, ...]]:
    """Return rows whose prompts are conversations, and the columns of these and of texts, which some may have."""
    values = rows.objects.get(column, [])
    texts = [value if isinstance(value, str) and value.lstrip()[:1] != "[" else None for value in values]
    if not any(texts):
        return rows, column, ()
    talks = [None if text is not None else value for value, text in zip(values, texts, strict=True)]
    own = Rows(rows.table, {**rows.objects, column: talks}).with_columns(pl.Series(_TEXTS, texts, dtype=pl.String))
    return own, column, (_TEXTS,)


def _text(rows: Rows, columns: tuple[str, ...], source: str) -> pl.Series:
    """Return the columns' texts, put together with a blank line between them."""
    for name in columns:
        if rows.is_nested(name):
            raise BadInput(
                f"'{source}', row 1: '{name}' holds a list or an object, not a text. Set load.prompt_column to another "
                "column, or leave it out with load.columns={" + name + ": null}"
            )
    texts = [rows.texts(name, source) for name in columns]
    if len(texts) == 1:
        return texts[0]
    table = pl.DataFrame([text.alias(str(i)) for i, text in enumerate(texts)])
    filled = [pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name)) for name in table.columns]
    return table.select(pl.concat_str(filled, separator="\n\n", ignore_nulls=True)).to_series()
