"""Label Studio: verdicts to be checked as tasks of its JSON format, one a line, and its export read back.

A task has the texts in ``data``, the verifier's verdict as a prediction, and what was said already as an annotation:

    {"data": {...}, "predictions": [{"model_version": ..., "result": [...]}], "annotations": [{"result": [...]}]}

The results are of a labelling interface with two controls, which the project has to have (``CONFIG``).
Source: labelstud.io/guide/task_format, labelstud.io/guide/predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput

CONFIG = """<View>
  <Header value="Problem"/><Text name="prompt" value="$prompt"/>
  <Header value="Known answer"/><Text name="answer" value="$answer"/>
  <Header value="Completion"/><Text name="completion" value="$completion"/>
  <Choices name="correct" toName="completion" choice="single" required="true">
    <Choice value="right"/><Choice value="wrong"/>
  </Choices>
  <TextArea name="note" toName="completion" rows="2" placeholder="why"/>
</View>
"""
"""The labelling interface of such a project."""
LARGEST = 512 * 2**20
"""Bytes of an export that is read."""
SHOWN = ("prompt", "answer", "completion", "predicted_answer")
CARRIED = (*SAMPLE_KEY, "problem_id", "stratum", "stratum_size")


def tasks(labels: pl.DataFrame, said: pl.DataFrame, verifier: str) -> Iterator[dict[str, Any]]:
    """Yield a task for each sample.

    Args:
        labels: samples with their texts (``schemas.measures.Label``).
        said: annotations (``schemas.books.Annotation``), at most one of each sample.
        verifier: whose verdicts they are.
    """
    known = {(row["problem_key"], row["sample_index"]): row for row in said.iter_rows(named=True)}
    for row in labels.iter_rows(named=True):
        texts = {name: row[name] if row[name] is not None else "" for name in SHOWN}
        task: dict[str, Any] = {"data": {**texts, **{name: row[name] for name in CARRIED}}}
        if row["accepted"] is not None:
            task["predictions"] = [{"model_version": verifier, "result": _results(row["accepted"], "")}]
        found = known.get((row["problem_key"], row["sample_index"]))
        if found is not None:
            made = f"{found['time']:%Y-%m-%dT%H:%M:%S.%fZ}"
            result = _results(found["is_correct"], found["note"])
            task["annotations"] = [{"result": result, "created_at": made, "was_cancelled": False}]
            task["data"]["annotated_by"] = found["author"]
        yield task


def _results(right: bool, note: str) -> list[dict[str, Any]]:
    about = {"to_name": "completion"}
    choice = {"id": "correct", "from_name": "correct", **about, "type": "choices"}
    found: list[dict[str, Any]] = [{**choice, "value": {"choices": ["right" if right else "wrong"]}}]
    if note:
        found.append({"id": "note", "from_name": "note", **about, "type": "textarea", "value": {"text": [note]}})
    return found


def write_tasks(path: Path, found: Iterator[dict[str, Any]]) -> int:
    """Write tasks, one a line; return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for task in found:
            file.write(json.dumps(task, ensure_ascii=False, default=str) + "\n")
            count += 1
    return count


def read_export(path: Path, author: str) -> list[dict[str, Any]]:
    """Return what an export says, a row for each annotated task, as ``cluster.records.annotations.annotate`` takes it.

    Of several annotations of a task the last one counts; skipped ones (``was_cancelled``) don't.

    Args:
        path: Label Studio's JSON (a list), or JSON lines.
        author: who is meant where the export doesn't name anybody.

    Raises:
        BadInput: not such an export, or a task that isn't one of ours.
    """
    rows: list[dict[str, Any]] = []
    for number, task in enumerate(_documents(path), 1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not _ours(data):
            raise BadInput(f"'{path}': task {number} isn't one of ours: its data have no problem_key and sample_index")
        given = task.get("annotations")
        every = given if isinstance(given, list) else []
        found = [one for one in every if isinstance(one, dict) and not one.get("was_cancelled")]
        for one in sorted(found, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))[-1:]:
            right, note = _said(one.get("result"))
            if right is None:
                continue
            rows.append(
                {
                    **{name: data.get(name) for name in CARRIED},
                    "is_correct": right,
                    "note": note,
                    "author": _author(one.get("completed_by"), str(data.get("annotated_by") or author)),
                    "time": _time(one.get("updated_at") or one.get("created_at")),
                }
            )
    return rows


def _ours(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("problem_key"), str) and type(data.get("sample_index")) is int


def _documents(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"'{path}' has more than {LARGEST // 2**20} MB")
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            found = json.loads(text)
            return found if isinstance(found, list) else [found]
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"'{path}' can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"'{path}' is neither a JSON list nor JSON lines: {error}") from error


def _said(results: Any) -> tuple[bool | None, str]:
    """Return what the controls say: right, wrong or nothing, and the note."""
    right, note = None, ""
    for one in results if isinstance(results, list) else []:
        value = one.get("value") if isinstance(one, dict) else None
        if not isinstance(value, dict):
            continue
        if one.get("from_name") == "correct" and value.get("choices") in (["right"], ["wrong"]):
            right = value["choices"] == ["right"]
        if one.get("from_name") == "note":
            text = value.get("text")
            note = "\n".join(map(str, text)) if isinstance(text, list) else str(text or "")
    return right, note


def _author(said: Any, other: str) -> str:
    """Return who an export names: a number, an address, or an object with one."""
    if isinstance(said, dict):
        said = said.get("email") or said.get("id")
    return other if said is None else f"Label Studio user {said}" if isinstance(said, int) else str(said)


def _time(said: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(said).replace("Z", "+00:00"))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
