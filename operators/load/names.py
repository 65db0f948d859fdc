"""Which column is what: names that data sets use, in tiers.

The first tier are the plain names; a later one is only looked at where those before it found nothing, so a new name
never takes the part of one that was understood before. Names are compared as they are first, then without case, blanks
and signs (``Correct Answer`` is ``correctanswer``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from operators.load.rows import Rows, parsed
from schemas.errors import BadInput

ID_NAMES = ("problem_id", "id", "unique_id", "uuid", "task_id")
PROMPT_NAMES = ("prompt", "problem", "question", "instruction", "input")
ANSWER_NAMES = (
    "answer",
    "expected_answer",
    "gt_answer",
    "ground_truth",
    "gold_standard_solution",
    "target",
    "solution",
)
MESSAGE_NAMES = ("messages", "conversations", "conversation")
CONTEXT_NAMES = ("context", "passage", "article", "paragraph", "body")
"""What a question is about, where it stands apart from it."""
SYSTEM_NAMES = ("system", "systemprompt", "systemmessage")
HISTORY_NAMES = ("history",)
"""What is said before a question, where that has columns of its own."""

_MORE_IDS = ("problemid", "id", "uniqueid", "uuid", "taskid", "recordid")
_MORE_PROMPTS = (
    *("prompt", "problem", "question", "instruction", "input", "query"),
    *("problemtext", "problemstatement", "questiontext", "questionstem", "questioncontent", "instructprompt"),
)
_PROMPTS_OF_TASKS = ("description", "text", "goal", "ctx", "sentence", "premise")
"""Names that mean a prompt only beside tests or options."""
_BETTER_ANSWERS = (
    *("finalanswer", "correctanswer", "referenceanswer", "goldanswer", "goldenanswer", "groundtruthanswer"),
    *("answer", "expectedanswer", "gtanswer", "groundtruth", "goldenanswers", "gold", "gt", "answerkey", "bestanswer"),
)
_WEAKER_ANSWERS = (
    *("target", "solution", "label", "labels", "answers", "answersspans", "answernumber", "ans", "finalans"),
    *("correct", "cop", "answeridx", "answerindex", "correctoption", "reference", "finaldecision"),
)
_APART = ("answers", "answersspans")
"""Answers of sets whose questions are about a ``context``."""
_WHOLE_TEXTS = (("instruction", "output"), ("query", "response"))
"""(prompt, answer): whole answers of a teacher, whose end may be the gold."""
TARGETS = (
    *("problem_id", "prompt", "messages", "tools", "answer", "task_type", "verification", "metadata"),
    *("context", "choices", "system", "history"),
)
"""What ``load.columns`` can name a column for."""
_AS_NAMED = ("tools", "task_type", "verification", "metadata")
"""Those of which there is nothing to know but the column."""
ASKING = frozenset(re.sub("_", "", name) for name in (*PROMPT_NAMES, *MESSAGE_NAMES, *_MORE_PROMPTS))
ANSWERING = frozenset(re.sub("_", "", name) for name in (*ANSWER_NAMES, *_BETTER_ANSWERS, *_WEAKER_ANSWERS))
"""All names, plain, of columns that ask, and of those that may have the answer."""
SETTINGS = {"problem_id": "id_column", "prompt": "prompt_column", "answer": "answer_column"}


@dataclass(frozen=True)
class Names:
    """Which columns serve as what.

    Attributes:
        prompt: several where they are put together, as an instruction and its input.
        answer: a column, or ``column.field`` of one that holds objects.
        whole: whether the answers are whole texts, whose end may be the gold.
        system: the turn that everything begins with.
        history: turns, or pairs of texts, before the question.
    """

    problem_id: str | None = None
    prompt: tuple[str, ...] = ()
    messages: str | None = None
    answer: str | None = None
    whole: bool = False
    context: str | None = None
    system: str | None = None
    history: str | None = None

    @property
    def used(self) -> set[str]:
        """The columns that are read, and don't ride along as they are."""
        answer = self.answer if self.answer is None or "." not in self.answer else None
        every = (self.problem_id, *self.prompt, self.messages, answer, self.context, self.system, self.history)
        return {name for name in every if name is not None}


def plain(name: str) -> str:
    """Return a name without case, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.lower())


def check_named(name: str, columns: Sequence[str], source: str) -> None:
    """Refuse a column that was named and isn't there.

    Raises:
        BadInput: with the nearest name.
    """
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadInput(f"'{source}' has no column '{name}'{hint} Found: {list(columns)}")


def mapped(rows: Rows, columns: Mapping[str, str | None], source: str) -> tuple[Rows, dict[str, str]]:
    """Return the rows without what ``load.columns`` leaves out, and which column it names for what.

    Raises:
        BadInput: a column that isn't there, or a pair of which neither is a part that a column can have.
    """
    named: dict[str, str] = {}
    left_out: set[str] = set()
    for one, other in columns.items():
        if other is None:
            if one in rows.columns:
                left_out.add(one)
            elif one not in TARGETS:
                check_named(one, rows.columns, source)
        elif one in TARGETS and (other in rows.columns or other not in TARGETS):
            check_named(other, rows.columns, source)
            named[one] = other
        elif other in TARGETS:  # {question: prompt}: the other way round is as clear
            check_named(one, rows.columns, source)
            named[other] = one
        else:
            raise BadInput(
                f"load.columns: neither '{one}' nor '{other}' is something that a column can be: {', '.join(TARGETS)}. "
                "Write such as {prompt: my_column}, or {my_column: null} to leave one out"
            )
    rows = rows.select(name for name in rows.columns if name not in left_out)
    as_named = {named.pop(target): target for target in _AS_NAMED if target in named}
    rows = rows.select(name for name in rows.columns if name not in as_named.values() or name in as_named)
    return rows.rename(as_named), named


def find_names(rows: Rows, named: Mapping[str, str], source: str, coding: bool, choosing: bool) -> Names:
    """Return which column of ``rows`` is what.

    Args:
        named: what the settings say; it settles its part.
        coding: whether the rows have columns of tests.
        choosing: whether they have options to choose from.

    Raises:
        BadInput: a named column that isn't there, none that asks, or several that could be meant.
    """
    for target, name in named.items():
        inside = target == "answer" and name not in rows.columns  # reward_model.ground_truth
        check_named(name.partition(".")[0] if inside else name, rows.columns, source)
    prompt = _prompt(rows, named.get("prompt"), source, coding or choosing)
    talking = [name for name in rows.columns if name in MESSAGE_NAMES]
    messages = named.get("messages") or next((name for name in MESSAGE_NAMES if name in talking), None)
    if not prompt and messages is None:
        turns = next((name for name in rows.columns if plain(name) == "turns" and rows.is_nested(name)), None)
        if turns is not None and isinstance((rows.first(turns) or [None])[0], str):
            prompt = (turns,)
        else:
            messages = turns
    if not prompt and messages is None:
        found = [name if len(name) <= 60 else name[:57] + "..." for name in rows.columns]
        unnamed = " (does its first line name the columns?)" if source.endswith((".csv", ".tsv")) else ""
        raise BadInput(
            f"'{source}' has no prompt. Columns found: {found}{unnamed}; accepted: {list(PROMPT_NAMES)} or messages, "
            "or set load.prompt_column"
        )
    answer, whole = _answer(rows, named.get("answer"), source, prompt)
    ids = [name for name in ID_NAMES if name in rows.columns] or _alike(_MORE_IDS, rows.columns)
    context = named.get("context")
    if context is None and prompt and "prompt" not in named:
        about = [
            name for name in _alike(CONTEXT_NAMES, rows.columns) if name not in prompt and not rows.is_nested(name)
        ]
        told_apart = choosing or "is_multiple_answer" in rows.columns or plain(answer or "") in _APART
        if about and (told_apart or plain(about[0]) != "context"):
            context = about[0]
    system, history = (
        named.get(target) or next(iter(_alike(known, rows.columns)), None)
        for target, known in (("system", SYSTEM_NAMES), ("history", HISTORY_NAMES))
    )
    problem_id = named.get("problem_id") or (ids[0] if ids else None)
    return Names(problem_id, prompt, messages, answer, whole, context, system, history)


def _alike(names: Iterable[str], columns: Sequence[str]) -> list[str]:
    """Return the columns of these plain names, in the names' order."""
    return [column for name in names for column in columns if plain(column) == name]


def _prompt(rows: Rows, named: str | None, source: str, task: bool) -> tuple[str, ...]:
    if named is not None:
        return (named,)
    known = [name for name in PROMPT_NAMES if name in rows.columns]
    if known == ["instruction", "input"]:
        return ("instruction", "input")
    if len(known) > 1 and known[0] != "prompt":
        raise _several("prompt", known, source)
    if known:
        return (known[0],)
    known = _alike(_MORE_PROMPTS, rows.columns) or (_alike(_PROMPTS_OF_TASKS, rows.columns)[:1] if task else [])
    if len(known) > 1:
        raise _several("prompt", known, source)
    return tuple(known)


def _answer(rows: Rows, named: str | None, source: str, prompt: tuple[str, ...]) -> tuple[str | None, bool]:
    """Return the answer's column, and whether it holds whole texts."""
    if named is not None:
        return named, False
    every = [name for name in rows.columns if name not in prompt]
    free = [name for name in every if not rows.is_empty(name)]
    if not any(plain(name) in ANSWERING for name in free):
        free = every
    known = [name for name in ANSWER_NAMES if name in free]
    strong = [name for name in known if name != "solution"]
    if len(known) > 1 and known[0] != "answer" and (len(strong) > 1 or "target" in strong):
        raise _several("answer", known, source)
    if strong:
        return strong[0], False
    better = [name for name in _alike(_BETTER_ANSWERS, free) if not rows.is_truth(name)]
    if len(better) > 1:
        ranked = [name for name in better if plain(name) == plain(better[0])]
        if len(ranked) > 1:
            raise _several("answer", ranked, source)
    if better:
        return better[0], False
    inside = _inside(rows)
    if inside is not None:
        return inside, False
    if known:
        return known[0], False
    weaker = [name for name in _alike(_WEAKER_ANSWERS, free) if not rows.is_truth(name)]
    if len(weaker) > 1 and not {plain(name) for name in weaker} >= {"correct", "label"}:
        weaker = weaker[:1]
    if weaker:
        return weaker[0], False
    whole = next((other for one, other in _WHOLE_TEXTS if one in prompt and other in free), None)
    return whole, whole is not None


def _inside(rows: Rows) -> str | None:
    """Return where an answer lies within a column of objects, as reward functions read it."""
    for column, fields in (("reward_model", ("ground_truth", "answer")), ("extra_info", ("answer", "ground_truth"))):
        if column not in rows.columns:
            continue
        values = rows.values(column) if column in rows.objects else [rows.first(column)]
        objects = [cast("Mapping[str, Any]", value) for value in map(parsed, values) if isinstance(value, Mapping)]
        for field in fields:
            if any(field in value for value in objects):
                return f"{column}.{field}"
    return None


def _several(target: str, known: list[str], source: str) -> BadInput:
    return BadInput(f"'{source}': several columns could be the {target}: {known}. Set load.{SETTINGS[target]}")
