"""Samples that other tools recorded, as samples here: one row a completion.

Known are OpenAI's and vLLM's batch outputs, samples of lm-evaluation-harness, logs of Inspect (as JSON), outputs of
NeMo-Skills, and tables with the completion under another name or several in a list. ``columns`` names what isn't known:
``completion=model_says``, or into objects, ``completion=response.text``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from operators.load.checks import Notes
from operators.load.json_rows import Kinds
from operators.load.names import check_named
from operators.load.rows import Rows
from schemas.errors import BadInput

COMPLETION_NAMES = (
    *("generation", "generated_text", "model_output", "model_response", "response", "prediction", "output"),
    *("generations", "responses", "completions", "outputs", "predictions"),
)
"""Names of the column of completions besides ``completion``, in order."""
_REASONS = {"stop": "stop", "eos": "stop", "end_turn": "stop", "length": "length", "max_tokens": "length"}

Row = dict[str, Any]


@dataclass(frozen=True)
class _Format:
    """A format of recorded samples: the columns that tell it, and how a row of it is read."""

    needs: frozenset[str]
    read: Callable[[Row, str], list[Row]]


def as_samples(rows: Rows, columns: Mapping[str, str], source: str, notes: Notes) -> Rows:
    """Return recorded samples with a ``completion`` each, numbered by ``sample_index`` where a row had several.

    Rows that have a ``completion`` already, and those of a format that isn't known, are returned as they are. ``notes``
    hears of requests that failed, and of rows that say again what others said.

    Args:
        columns: our name -> theirs, where it has to be said.

    Raises:
        BadInput: a row in which there is no text where the format has it; a column that isn't there.
    """
    if columns:
        rows = _named(rows, columns, source)
    if "completion" in rows.columns:
        return _each(rows) if rows.is_nested("completion") else rows
    known = next((one for one in _FORMATS if one.needs <= set(rows.columns)), None)
    if known is None:
        other = next((name for name in COMPLETION_NAMES if name in rows.columns), None)
        if other is None:
            return rows
        return as_samples(rows.rename({other: "completion"}), {}, source, notes)
    names = rows.columns
    columns_of = [rows.values(name) for name in names]
    found: list[Row] = []
    filters: dict[Any, Any] = {}
    for number, values in enumerate(zip(*columns_of, strict=True), 1):
        row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        if known.read is _harness and filters.setdefault(row["doc_id"], row.get("filter")) != row.get("filter"):
            notes.count("left out: another filter's reading of completions that are there already", number)
            continue
        try:
            made = known.read(row, names[0])
            if any(sample.get("status") == "error" for sample in made):
                notes.count("whose request failed: they have no completion, and are not judged", number)
            found += made
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(
                f"'{source}', row {number}: no completion is found where this format has it ({type(error).__name__}: "
                f"{error}). Name its place, such as --set columns.completion=response.text"
            ) from error
    return Kinds().see(found).rows(found)


def _named(rows: Rows, columns: Mapping[str, str], source: str) -> Rows:
    for ours, theirs in columns.items():
        head, *path = theirs.split(".")
        if theirs in rows.columns:
            head, path = theirs, []
        check_named(head, rows.columns, source)
        if not path:
            if ours != theirs:
                kept = [name for name in rows.columns if name != ours]
                rows = rows.select(kept).rename({head: ours})
            continue
        values = [
            _follow(value, path, f"'{source}', row {n}: '{theirs}'") for n, value in enumerate(rows.values(head), 1)
        ]
        rest = rows.select(name for name in rows.columns if name != ours)
        made = [{ours: value} for value in values]
        added = Kinds().see(made).rows(made)
        rows = Rows(rest.table.hstack(added.table.get_columns()), {**rest.objects, **added.objects})
    return rows


def _follow(value: Any, path: Sequence[str], where: str) -> Any:
    for step in path:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise BadInput(f"{where}: '{step}' is looked for in a text that is no JSON") from error
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise BadInput(f"{where}: there is no '{step}'") from error
    return value


def _each(rows: Rows) -> Rows:
    """Return a row for each of the completions that a row has in a list."""
    names = [name for name in rows.columns if name != "completion"]
    others = [rows.values(name) for name in names]
    found: list[Row] = []
    for position, value in enumerate(rows.values("completion")):
        texts = cast("list[Any]", value) if isinstance(value, list) else [value]
        for text in texts:
            given = text.get("text", text.get("content")) if isinstance(text, Mapping) else text  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            found.append(
                {**{name: column[position] for name, column in zip(names, others, strict=True)}, "completion": given}
            )
    return Kinds().see(found).rows(found)


def _said(message: Mapping[str, Any]) -> Row:
    """Return what an assistant's message says."""
    content: Any = message.get("content")
    if isinstance(content, list):
        parts = cast("list[Mapping[str, Any]]", content)
        content = "".join(
            str(part.get("text", "")) for part in parts if part.get("type", "text") in ("text", "output_text")
        )
    thought = message.get("reasoning_content") or message.get("reasoning")
    return {"completion": content or "", "reasoning": thought if isinstance(thought, str) else None}


def _batch(row: Row, _: str) -> list[Row]:
    """Return the completions of a line of a batch's output."""
    problem = {"problem_id": str(row["custom_id"])}
    response: Row = row.get("response") or {}
    given: Any = response.get("body") or {}
    body = cast("Row", given) if isinstance(given, dict) else {}
    error = row.get("error") or body.get("error")
    status = int(response.get("status_code") or 200)
    if error or status >= 400 or body.get("choices") == []:
        told = json.dumps(error or given, default=str)
        return [{**problem, "completion": "", "status": "error", "error": told, "finish_reason": "error"}]
    usage: Row = body.get("usage") or {}
    found: list[Row] = []
    for choice in body["choices"]:
        said = _said(choice["message"]) if "message" in choice else {"completion": choice["text"]}
        reason = _REASONS.get(str(choice.get("finish_reason") or "stop"), "stop")
        tokens = {"prompt_tokens": usage.get("prompt_tokens"), "completion_tokens": usage.get("completion_tokens")}
        tokens = tokens if len(body["choices"]) == 1 else {}
        found.append({**problem, **said, "status": "ok", "finish_reason": reason, **tokens})
    return found


def _harness(row: Row, _: str) -> list[Row]:
    """Return the completions of a sample of lm-evaluation-harness."""
    about: Row = {"problem_id": str(row["doc_id"]), "answer": row.get("target")}
    arguments = row.get("arguments")
    if isinstance(arguments, Mapping):
        given = cast("Mapping[str, Mapping[str, Any]]", arguments)
        about["prompt"] = next((first.get("arg_0") for first in given.values()), None)
    elif isinstance(arguments, list) and arguments:
        about["prompt"] = arguments[0][0]
    responses = row["resps"][0] if isinstance(row["resps"][0], list) else row["resps"]
    if not all(isinstance(text, str) for text in responses):
        raise ValueError("its responses are likelihoods of options, not texts")
    return [{**about, "completion": text} for text in responses]


def _inspect(row: Row, _: str) -> list[Row]:
    """Return the completion of a sample of an Inspect log."""
    output: Row = row["output"]
    choices: list[Row] = output.get("choices") or []
    said = _said(choices[0]["message"]) if choices else {"completion": output["completion"]}
    reason = _REASONS.get(str(choices[0].get("stop_reason") or "stop"), "stop") if choices else "stop"
    about = {"problem_id": str(row["id"]), "answer": row.get("target"), "prompt": row.get("input")}
    failed = (
        {"status": "error", "error": json.dumps(row["error"], default=str)} if row.get("error") else {"status": "ok"}
    )
    epoch = {"sample_index": int(row["epoch"]) - 1} if row.get("epoch") is not None else {}
    return [{**about, **epoch, **said, **failed, "finish_reason": reason}]


_FORMATS = (
    _Format(frozenset({"custom_id", "response"}), _batch),
    _Format(frozenset({"doc_id", "resps"}), _harness),
    _Format(frozenset({"input", "output", "epoch"}), _inspect),
)
