"""How a row's answers are judged: by golds, by the right one of its options, or by tests of programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from operators.load.code_columns import with_starter_code
from operators.load.facts import Facts, code_of
from operators.load.golds import Golds, final_answers, read_golds
from operators.load.names import Names
from operators.load.options import Choice, read_choices
from operators.load.prompts import Prompts
from operators.load.rows import Rows
from operators.load.turns import with_question
from schemas.conversation import Turn, turns_dtype
from schemas.later import pl


@dataclass(frozen=True)
class Judging:
    """What judges all rows.

    Attributes:
        prompt: the questions, with options and the code that programs begin with.
        messages: the conversations, with these in the turn that asks; None where the source has none.
        answer: the golds, of rows with options their letters.
        task_type: what kind each row is of.
        more: what goes to ``verification``, by row from 0.
        absent: where a row had something that is no gold; None where no column of golds is known.
    """

    prompt: pl.Series
    messages: pl.Series | None
    answer: pl.Series
    task_type: pl.Series
    more: dict[int, dict[str, Any]]
    absent: pl.Series | None


def read_judging(rows: Rows, names: Names, facts: Facts, prompts: Prompts, source: str, task_type: str) -> Judging:
    """Return what judges the rows.

    Args:
        task_type: of rows that are neither about programs nor about options, and don't say.

    Raises:
        BadInput: tests, options or an answer that can't be read; with the row.
    """
    kinds = pl.Series("task_type", [task_type], dtype=pl.String).new_from_index(0, len(rows))
    if not facts.coding and facts.options is None:
        golds = _golds(rows, names, facts, prompts, [], source)
        answer = _nothing(rows) if golds is None else golds.answer
        more, absent = ({}, None) if golds is None else (golds.more, golds.absent)
        return Judging(prompts.text, prompts.messages, answer, _own_types(rows, kinds, source), more, absent)
    code = code_of(rows, source) if facts.coding else [None] * len(rows)
    own = rows.values("verification") if "verification" in rows.columns else [None] * len(rows)
    settled = [bool(given or about) for given, about in zip(own, code, strict=True)]
    choices = _choices(rows, names, facts, prompts, settled, source)
    golds = _golds(rows, names, facts, prompts, choices, source)
    texts: list[str | None] = golds.answer.to_list() if golds is not None else [None] * len(rows)
    asked: list[str | None] = prompts.text.to_list()
    talks: list[list[Turn] | None] | None = None if prompts.messages is None else prompts.messages.to_list()
    starts = rows.texts("starter_code", source) if "starter_code" in rows.columns else None
    types: list[str] = kinds.to_list()
    more = {} if golds is None else dict(golds.more)
    for row, (choice, about) in enumerate(zip(choices, code, strict=True)):
        shown: Callable[[str], str] | None = None
        if about is not None:
            types[row], more[row] = "code", {**more.get(row, {}), **about}
            if names.answer is not None and ("." in names.answer or names.answer in ("tests", "verification_info")):
                texts[row] = None  # the tests were there in the place of a gold
            if starts is not None:
                shown = partial(with_starter_code, starter_code=starts[row])
        elif choice is not None:
            types[row], more[row], texts[row] = "choice", choice.verification, choice.letter
            shown = choice.shown
        elif facts.coding and texts[row] is None:
            types[row] = "code"
        prompt, talk = asked[row], None if talks is None else talks[row]
        if shown is not None and prompt is not None:
            asked[row] = shown(prompt)
        if shown is not None and talk and talks is not None:
            talks[row] = with_question(talk, shown)
    return Judging(
        pl.Series("prompt", asked, dtype=pl.String),
        None if talks is None else pl.Series("messages", talks, dtype=turns_dtype()),
        pl.Series("answer", texts, dtype=pl.String),
        _own_types(rows, pl.Series("task_type", types, dtype=pl.String), source),
        more,
        None if golds is None else golds.absent,
    )


def _choices(
    rows: Rows, names: Names, facts: Facts, prompts: Prompts, settled: list[bool], source: str
) -> list[Choice | None]:
    if facts.options is None:
        return [None] * len(rows)
    keys = rows.values(names.answer) if names.answer is not None and "." not in names.answer else None
    return read_choices(rows, facts.options, prompts.text.to_list(), keys, names.answer, settled, source)


def _golds(
    rows: Rows, names: Names, facts: Facts, prompts: Prompts, choices: list[Choice | None], source: str
) -> Golds | None:
    if names.answer is None:
        return None
    if choices and all(choice is not None for choice in choices):
        nothing = _nothing(rows)
        return Golds(nothing, {}, nothing.is_not_null())
    if names.answer == names.messages:  # what the assistant had said at the end
        said = [prompts.cut[row][-1]["content"] if row in prompts.cut else None for row in range(len(rows))]
        ends = final_answers(pl.Series("answer", said, dtype=pl.String), whole=True)
        return Golds(ends, {}, ends.is_null())
    return read_golds(rows, names.answer, source, whole=names.whole, integral=names.answer in facts.integral)


def _nothing(rows: Rows) -> pl.Series:
    return pl.Series("answer", [None], dtype=pl.String).new_from_index(0, len(rows))


def _own_types(rows: Rows, kinds: pl.Series, source: str) -> pl.Series:
    """Return the task types, of rows that say their own these."""
    if "task_type" not in rows.columns:
        return kinds
    given = rows.texts("task_type", source)
    return given.zip_with(given.is_not_null(), kinds)


def with_more(verification: pl.Series, more: dict[int, dict[str, Any]]) -> pl.Series:
    """Return what says how answers are checked, with what golds, options and tests of some rows add."""
    if not more:
        return verification
    texts = verification.to_list()
    for row, about in more.items():
        texts[row] = json.dumps({**about, **json.loads(texts[row] or "{}")}, sort_keys=True)
    return pl.Series("verification", texts, dtype=pl.String)
