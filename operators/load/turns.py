"""Conversations: what is shown to the model of them, and what never is.

Data sets of solved problems have the solution as the assistant's last turn. It would be the beginning of what the model
writes, so what the assistant says after the last turn of the user or of a tool is cut. Everything before stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from operators.load.checks import Notes
from operators.load.names import MESSAGE_NAMES
from operators.load.rows import Rows
from schemas.conversation import Turn, turns_dtype
from schemas.errors import BadInput
from schemas.later import pl
from schemas.messages import NotATurn, conversations, conversations_of

_ASKING = ("user", "tool")
_QUIET = ("system", "developer")
"""Roles that neither ask nor answer: of what follows the last question, only their turns are shown."""


@dataclass(frozen=True)
class Asked:
    """The conversations of all rows, without their answers.

    Attributes:
        messages: null where a row has none, or none but its prompt.
        cut: what the assistant had said at the end, by row from 0.
    """

    messages: pl.Series
    cut: dict[int, list[Turn]]


def read_turns(rows: Rows, column: str, source: str) -> pl.Series:
    """Return a column of conversations in the contract's form.

    Raises:
        BadInput: a value that isn't a list of turns; with its row.
    """
    try:
        if column in rows.objects:
            values = rows.objects[column]
            if all(value is None or _is_plain(value) for value in values):
                return conversations(_column(values).alias(column))
            return pl.Series(column, conversations_of(values), dtype=turns_dtype())
        if rows.table.schema[column] == pl.Null:
            return rows.table[column].cast(turns_dtype())
        return conversations(rows.table[column])
    except NotATurn as error:
        wanted = "a list" if column in MESSAGE_NAMES else "a text, or a list"
        told = f"'{source}', row {error.row + 1}: '{column}' must be {wanted} of {{role, content}}: it {error}. "
        raise BadInput(told + "Mend it, or leave it out with load.columns={" + column + ": null}") from error


def _column(values: list[list[dict[str, str]] | None]) -> pl.Series:
    """Return lists of plain turns as a column: by way of all turns together, which is far faster than list by list."""
    turns = [turn for value in values if value for turn in value]
    flat = {
        "row": pl.Series([row for row, value in enumerate(values) for _ in value or ()], dtype=pl.Int64),
        "role": pl.Series([turn["role"] for turn in turns], dtype=pl.String),
        "content": pl.Series([turn["content"] for turn in turns], dtype=pl.String),
    }
    lists = pl.DataFrame(flat).group_by("row", maintain_order=True).agg(turns=pl.struct("role", "content"))
    given = pl.Series("given", [value is not None for value in values], dtype=pl.Boolean)
    rows = given.to_frame().with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    found = rows.join(lists, on="row", how="left", maintain_order="left")
    empty = pl.col("given") & pl.col("turns").is_null()
    plain = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    return found.select(pl.when(empty).then(pl.lit([], dtype=plain)).otherwise("turns")).to_series()


def _is_plain(value: Any) -> bool:
    """Whether a JSON value is a list of turns with nothing but two texts, which Polars reads faster."""
    return isinstance(value, list) and all(
        isinstance(turn, dict) and turn.keys() == {"role", "content"} and all(map(_is_text, turn.values()))  # pyright: ignore[reportUnknownArgumentType,reportUnknownMemberType]
        for turn in value  # pyright: ignore[reportUnknownVariableType]
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def without_answers(
    turns: pl.Series, prompts: pl.Series | None, source: str, column: str, continue_last: bool, notes: Notes
) -> Asked:
    """Return what is asked in conversations.

    Args:
        prompts: the rows' own prompts; one that a conversation has nothing besides takes its place.
        continue_last: keep an assistant's last turn: it is the beginning of the completion.

    Raises:
        BadInput: a conversation in which nothing is asked; with its row.
    """
    _refuse_silent(turns, prompts, source, column)
    element = pl.element().struct.field("role")
    table = turns.alias("turns").to_frame()
    if continue_last:
        _refuse_unasked(turns, prompts, source, column, continue_last)
        return Asked(turns, {})
    # how many turns up to the last of the user or of a tool
    behind = pl.col("turns").list.reverse().list.eval(element.is_in(_ASKING)).list.arg_max()
    asks = pl.col("turns").list.eval(element.is_in(_ASKING)).list.any()
    kept = table.select(pl.when(asks).then(pl.col("turns").list.len() - behind).otherwise(0)).to_series()
    roles = pl.col("turns").list.eval(element)
    answers = roles.list.slice(pl.col("kept"), None).list.eval(~pl.element().is_in(_QUIET)).list.any()
    ends = table.with_columns(kept=kept).select(answers.fill_null(False)).to_series()
    where = [int(row) for row in ends.arg_true()]
    if not where:
        _refuse_unasked(turns, prompts, source, column, continue_last)
        return Asked(turns, {})
    keep, values = kept.to_list(), turns.to_list()
    cut: dict[int, list[Turn]] = {}
    alone = 0
    for row in where:
        own: list[Turn] = values[row]
        cut[row] = [turn for turn in own[keep[row] :] if turn["role"] not in _QUIET]
        values[row] = own[: keep[row]] + [turn for turn in own[keep[row] :] if turn["role"] in _QUIET]
        prompt = None if prompts is None else prompts[row]
        if prompt is not None and _is_prompt(values[row], prompt):
            values[row], alone = None, alone + 1
    messages = pl.Series("messages", values, dtype=turns_dtype())
    _refuse_unasked(messages, prompts, source, column, continue_last)
    notes.count(
        f"whose '{column}' end with the assistant: that turn is the answer and isn't shown to the model "
        f"(load.continue_last=true continues it, load.answer_column={column} reads the gold from it)",
        where[0] + 1,
        len(where),
    )
    return Asked(messages, cut)


def _is_prompt(turns: list[Turn], prompt: Any) -> bool:
    """Whether a conversation has nothing but the prompt."""
    said = [turn for turn in turns if turn["role"] != "assistant"]
    more = ("tool_calls", "tool_call_id", "parts")
    return (
        len(said) == len(turns) == 1
        and said[0]["role"] == "user"
        and str(said[0]["content"]).strip() == str(prompt).strip()
        and not any(said[0].get(name) for name in more)
    )


def _refuse_silent(turns: pl.Series, prompts: pl.Series | None, source: str, column: str) -> None:
    """Refuse rows that have neither a conversation nor a prompt."""
    empty = turns.list.len().fill_null(0) == 0
    if prompts is not None:
        empty &= turns.is_not_null() | prompts.is_null()
    if empty.any():
        raise BadInput(
            f"'{source}', row {empty.arg_true()[0] + 1}: '{column}' is empty ({empty.sum()} such row(s)): it must be a "
            "list of {role, content}"
        )


def _refuse_unasked(turns: pl.Series, prompts: pl.Series | None, source: str, column: str, continue_last: bool) -> None:
    roles = turns.list.eval(pl.element().struct.field("role").is_in(_ASKING)).list.any()
    unasked = turns.is_not_null() & ~roles.fill_null(False)
    if continue_last:  # a beginning alone can be gone on with
        unasked &= turns.list.len() == 0
    if unasked.any():
        remedy = " or leave it out with load.columns={" + column + ": null}" if prompts is not None else ""
        raise BadInput(
            f"'{source}', row {unasked.arg_true()[0] + 1}: nobody asks anything in '{column}': it has no turn of the "
            f"user's ({unasked.sum()} such row(s)). Give it one{remedy}"
        )


def with_question(turns: list[Turn], shown: Callable[[str], str]) -> list[Turn]:
    """Return a conversation whose user's last turn is what ``shown`` makes of it: the question with its options."""
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is None:
        return turns
    turn, before = dict(turns[last]), turns[last]["content"]
    turn["content"] = shown(before)
    if turn.get("parts") is not None and turn["content"] != before:
        more = {"type": "text", "text": turn["content"].removeprefix(before.rstrip()).lstrip()}
        turn["parts"] = json.dumps([*json.loads(turn["parts"]), more], ensure_ascii=False)
    return [*turns[:last], turn, *turns[last + 1 :]]


def prompts_of(turns: pl.Series) -> pl.Series:
    """Return the text of the user's last turn of each conversation."""
    user = pl.element().filter(pl.element().struct.field("role") == "user").struct.field("content")
    asked = turns.alias("turns").to_frame().select(pl.col("turns").list.eval(user).list.last())
    return asked.to_series().fill_null("")
