"""What people are told of problems that were read: from where, where that isn't plain, and which have no answer."""

from __future__ import annotations

import polars as pl

from operators.load.checks import Notes
from operators.load.facts import Facts
from operators.load.names import ANSWER_NAMES, PROMPT_NAMES, Names, plain
from operators.load.rows import Rows

_SOLUTIONS = ("solution", "finalanswer", "groundtruth", "expectedanswer", "target")
"""Columns that may have the answer where the one that is read has none."""
_NO_ANSWERS = frozenset({"metadata", "task_type", "tools", "functions", "verification"})


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
    if names.context is None and "context" in rows.columns and not rows.is_nested("context"):
        notes.say("'context' isn't shown to the model; load.columns={context: context} puts it before the question")
    unanswered = problems["answer"].is_null() & problems["verification"].is_null()
    free = [name for name in rows.columns if name not in names.used | _NO_ANSWERS]
    notes.count_answers(unanswered, absent, names.answer, free)
    other = next((name for name in free if plain(name) in _SOLUTIONS and not rows.is_nested(name)), None)
    if names.answer is not None and other is not None and unanswered.any():
        has = rows.texts(other).str.strip_chars() != ""
        told = f"without '{names.answer}' that have '{other}': load.answer_column={other} would read golds from it"
        notes.count_where(told, unanswered & has.fill_null(False))
