"""Calling a function of a user's: found by its name, given what it takes, in a worker process or in the sandbox."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import numbers
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from operators.sandbox import CommandJob, Outcome
from operators.workers import TimedOut, WorkerFailed
from schemas.errors import BadInput

Arguments = tuple[list[Any], dict[str, Any]]
"""By position and by name."""
Result = tuple[str | None, bool | float | None]
"""A key and a verdict; None: none."""

START = """
import importlib, json, os, sys
out = os.dup(1)
os.dup2(2, 1)  # what the function prints is no verdict
sys.path[:0] = [os.getcwd(), *PATHS, "/packages"]
function = importlib.import_module(MODULE)
for name in NAME.split("."):
    function = getattr(function, name)
with open("call.json", encoding="utf-8") as file:
    positions, names = json.load(file)
found = function(*positions, **names)
key, value = found if isinstance(found, tuple) and len(found) == 2 else (None, found)
value = value if value is None or isinstance(value, bool) else float(value)
os.write(out, json.dumps([None if key is None else str(key), value]).encode())
"""


def find(target: str) -> Callable[..., Any]:
    """Return the function that ``package.module:name`` names.

    Raises:
        BadInput: there is none.
    """
    module, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"function '{target}': {error}. Is its folder on PYTHONPATH, or the working directory?"
        ) from error
    except Exception as error:  # the user's own module: whatever it raises while it is imported
        raise BadInput(f"function '{target}': importing '{module}' raises {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise BadInput(f"function '{target}': '{module}' has no '{name}'")
        found = getattr(found, part)
    if not callable(found):
        raise BadInput(f"function '{target}' is a {type(found).__name__}, not a function")
    return found


def source_of(target: str) -> str:
    """Return a function's text, which tells whether it is still the same."""
    function = inspect.unwrap(find(target))
    try:
        return inspect.getsource(function)
    except (OSError, TypeError) as error:
        raise BadInput(
            f"function '{target}' has no source that could be read ({error}): define it in a file"
        ) from error


def arguments(
    function: Callable[..., Any], target: str, completion: str, answer: str | None, problem: dict[str, Any]
) -> Arguments:
    """Return what to give a function: by name where it uses our names, else as many as it takes, in their order.

    Raises:
        BadInput: it takes something else.
    """
    given = {"completion": completion, "answer": answer, "problem": problem}
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return [*given.values()], {}
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    needed = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if any(one.name in given for one in named) and all(one.name in given for one in needed):
        open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters)
        return [], {name: value for name, value in given.items() if open_ended or name in {one.name for one in named}}
    by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    most = 3 if any(one.kind is one.VAR_POSITIONAL for one in parameters) else min(3, len(by_place))
    if not most or any(one not in by_place[:most] for one in needed):
        raise BadInput(f"function '{target}' must take (completion, answer, problem), or the first of these")
    return [*given.values()][:most], {}


def call(target: str, path: Sequence[str], positions: list[Any], names: dict[str, Any]) -> Result:
    """Call a function in a worker process. What it prints goes to standard error."""
    sys.path.extend(place for place in path if place not in sys.path)
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = find(target)(*positions, **names)
    pair = cast("tuple[Any, ...]", found) if isinstance(found, tuple) else (None, found)
    if len(pair) != 2:
        raise TypeError(f"it gave {len(pair)} values; a verdict is True, False, a score, (key, one of these) or None")
    key, value = pair
    if value is not None and not isinstance(value, bool):
        if not isinstance(value, numbers.Real) and type(value).__name__ not in ("bool", "bool_"):  # pyright: ignore[reportUnknownArgumentType]
            raise TypeError(f"it gave {value!r:.80}; a verdict is True, False, a score, (key, one of these) or None")
        value = float(value) if isinstance(value, numbers.Real) else bool(value)
    return (None if key is None else str(key)), value  # pyright: ignore[reportUnknownArgumentType]


def job(target: str, given: Arguments, paths: Sequence[str]) -> CommandJob:
    """Return a call as a job for the sandbox."""
    module, _, name = target.partition(":")
    folder, file = _place_of(target)
    alone = () if folder is not None else ((file.name, file.read_text(encoding="utf-8")),)
    places = [*paths] if folder is None else [str(folder.parent), *paths]
    start = f"MODULE, NAME, PATHS = {module!r}, {name!r}, {places!r}\n{START}"
    command = (os.path.realpath(sys.executable), "-I", "-B", "-X", "utf8", "start.py")
    return CommandJob(command, (*alone, ("start.py", start), ("call.json", json.dumps(given, ensure_ascii=False))))


def mounts_of(target: str) -> tuple[str, ...]:
    """Return the folder of a function's package; the text of a lone module travels with the job."""
    folder, _ = _place_of(target)
    return () if folder is None else (str(folder),)


def outcome_of(outcome: Outcome) -> Result | TimedOut | WorkerFailed:
    """Return what a job of the sandbox gave, as a worker's call would."""
    if outcome.status == "timeout":
        return TimedOut()
    try:
        key, value = json.loads(outcome.stdout.strip().splitlines()[-1])
    except (ValueError, TypeError, IndexError):
        return WorkerFailed(outcome.detail or "it gave no verdict")
    return key, value


def _place_of(target: str) -> tuple[Path | None, Path]:
    """Return the folder of a function's top-level package, None of a lone module; and the file of the module.

    Raises:
        BadInput: it comes from no file.
    """
    top = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
    own = importlib.util.find_spec(target.partition(":")[0])
    if top is None or own is None or own.origin is None or not Path(own.origin).is_file():
        raise BadInput(f"function '{target}' comes from no file that the sandbox could be shown")
    folders = list(top.submodule_search_locations or [])
    return (Path(folders[0]) if folders else None), Path(own.origin)
