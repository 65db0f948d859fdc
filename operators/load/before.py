"""What is said before a question, where it has columns of its own: a system turn, and turns of earlier questions.

Alpaca's files have ``system`` and ``history`` (pairs of a question and its answer), ShareGPT's and OpenOrca's a system
turn beside the conversation. All of it is read by the model, so it is a part of the problem's ``messages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from operators.load.names import Names
from operators.load.rows import Rows, parsed
from schemas.conversation import Turn, turns_dtype
from schemas.errors import BadInput
from schemas.later import pl
from schemas.messages import NotATurn, turn_of, turns_of
from schemas.parts import content_of


def with_before(
    rows: Rows, names: Names, prompts: pl.Series, messages: pl.Series | None, source: str
) -> pl.Series | None:
    """Return the rows' conversations with what is said before them; a prompt is the user's turn of its own.

    Args:
        prompts: what is asked, as the model reads it.
        messages: conversations, where the source has some.

    Raises:
        BadInput: a system turn that is no text, or differs from the conversation's own; a history that is neither
            turns nor pairs; with the row.
    """
    if names.system is None and names.history is None:
        return messages
    nothing: list[Any] = [None] * len(rows)
    systems = nothing if names.system is None else rows.values(names.system)
    histories = nothing if names.history is None else rows.values(names.history)
    found: list[list[Turn] | None] = nothing if messages is None else messages.to_list()
    for row, (given, history, prompt) in enumerate(zip(systems, histories, prompts, strict=True)):
        where = f"'{source}', row {row + 1}"
        system = None if given is None else _system(given, where, names.system or "")
        earlier = [] if history is None else _earlier(history, where, names.history or "")
        if system is None and not earlier:
            continue
        own = found[row] or [turn_of({"role": "user", "content": prompt or ""})]
        begins = own[0]["content"] if own[0]["role"] in ("system", "developer") else None
        if system is not None and begins is not None and begins.strip() != system.strip():
            raise BadInput(
                f"{where}: '{names.system}' and the system turn of its conversation differ. Leave "
                "one out, such as with load.columns={" + str(names.system) + ": null}"
            )
        head, rest = (own[:1], own[1:]) if begins is not None else ([], own)
        if system is not None and begins is None:
            head = [turn_of({"role": "system", "content": system})]
        found[row] = [*head, *earlier, *rest]
    return pl.Series("messages", found, dtype=turns_dtype())


def _system(given: Any, where: str, column: str) -> str | None:
    """Return what a system turn says, of a text or of parts; None where that is nothing."""
    try:
        text, parts = content_of(given)
        if parts is not None and any(part["type"] != "text" for part in parts):
            raise NotATurn("has parts that are no texts")
    except NotATurn as error:
        told = f"{where}: '{column}' must be a text, or a list of texts: it {error}. Mend it, or leave it out with "
        raise BadInput(told + "load.columns={" + column + ": null}") from error
    return text if text.strip() else None


def _earlier(history: Any, where: str, column: str) -> list[Turn]:
    """Return the turns of earlier questions."""
    value = parsed(history)
    if isinstance(value, str) and not value.strip():
        return []
    try:
        if not isinstance(value, list):
            raise NotATurn("is no list")
        items = cast("list[Any]", value)
        if all(isinstance(item, list) for item in items):
            return [turn for pair in items for turn in _pair(pair)]
        return turns_of(items)
    except NotATurn as error:
        raise BadInput(
            f"{where}: '{column}' must be a list of turns {{role, content}} or of pairs [question, answer]: it "
            f"{error}. Mend it, or leave it out with load.columns={{{column}: null}}"
        ) from error


def _pair(pair: Sequence[Any]) -> list[Turn]:
    if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise NotATurn("has something that is no pair of texts")
    return [turn_of({"role": role, "content": text}) for role, text in zip(("user", "assistant"), pair, strict=True)]
