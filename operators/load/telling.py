"""What people are told of problems that were read: from where, where that isn't plain, and which have no answer."""

from __future__ import annotations

import re

from operators.load.checks import Notes
from operators.load.facts import Facts
from operators.load.names import ANSWER_NAMES, PROMPT_NAMES, Names, plain
from operators.load.places import split_of
from operators.load.rows import Rows
from schemas.later import pl

_SOLUTIONS = ("solution", "finalanswer", "groundtruth", "expectedanswer", "target")
"""Columns that may have the answer where the one that is read has none."""
_IMAGE = re.compile(r"(?:decoded|question)?images?\d*")
_NO_ANSWERS = frozenset({"metadata", "task_type", "tools", "functions", "function", "verification"})


def tell(
    rows: Rows, names: Names, facts: Facts, absent: pl.Series | None, problems: pl.DataFrame, notes: Notes
) -> None:
    """Tell ``notes`` what there is to say.

    Args:
        absent: where a row had something that is no gold; None where no column of golds is known.
        problems: what became of the rows.
    """
    read = {"prompt": [*([names.context] if names.context else []), *names.prompt]}
    if facts.options is not None:
        read["options"] = [*facts.options.columns, *([facts.options.right] if facts.options.right else [])]
    read["answer"] = [names.answer] if names.answer is not None else []
    read["what comes before"] = [name for name in (names.system, names.history) if name is not None]
    told = [f"{what} from {' and '.join(map(repr, columns))}" for what, columns in read.items() if columns]
    if any(name not in (*PROMPT_NAMES, *ANSWER_NAMES) for columns in read.values() for name in columns):
        notes.say(f"read as {', '.join(told)}")
    if names.context is None and "context" in rows.columns:
        remedy = "load.columns={context: context} puts it before the question"
        remedy = (
            "it holds no texts, so that nothing can be put before the question" if rows.is_nested("context") else remedy
        )
        notes.say(f"'context' isn't shown to the model: {remedy}")
    for name in rows.columns:
        if _IMAGE.fullmatch(plain(name)):
            told = f"with '{name}', which isn't shown to the model: images go in parts of messages"
            notes.count_where(told, _there(rows, name))
    _tell_splits(rows, notes)
    unanswered = problems["answer"].is_null() & (problems["verification"].is_null() | _undecided(problems))
    free = [name for name in rows.columns if name not in names.used | _NO_ANSWERS]
    maybe = [names.answer] if names.whole and names.answer is not None else []  # whole texts, taken as they stand
    notes.count_answers(unanswered, absent, names.answer, [*maybe, *free])
    other = next((name for name in free if plain(name) in _SOLUTIONS and not rows.is_nested(name)), None)
    if names.answer is not None and other is not None and unanswered.any():
        has = rows.texts(other).str.strip_chars() != ""
        told = f"without '{names.answer}' that have '{other}': load.answer_column={other} would read golds from it"
        notes.count_where(told, unanswered & has.fill_null(False))


def _tell_splits(rows: Rows, notes: Notes) -> None:
    """Tell which splits are read together, where a column says it."""
    if "split" not in rows.columns or rows.is_nested("split"):
        return
    texts = rows.texts("split")
    for name in texts.drop_nulls().unique(maintain_order=True):
        if split_of(f"{name}.") is not None:
            notes.count_where(f"of the split '{name}': load.split={name} reads no others", texts == name)


def _undecided(problems: pl.DataFrame) -> pl.Series:
    """Return which problems have options, and nothing that says which is right."""
    told = problems["verification"].str
    return told.contains('"choices": ') & ~told.contains('"(?:choice|answers|code)": ')


def _there(rows: Rows, name: str) -> pl.Series:
    """Return which rows have something in a column."""
    if name in rows.objects:
        return pl.Series([value not in (None, "", [], {}) for value in rows.objects[name]], dtype=pl.Boolean)
    values = rows.table[name]
    if isinstance(values.dtype, pl.List):
        return (values.list.len() > 0).fill_null(False)
    return values.is_not_null() & ((values != "") if values.dtype == pl.String else values.is_not_null())
