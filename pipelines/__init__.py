"""In what order: the graph of stages, identities, and one short file per shipped pipeline."""

from __future__ import annotations

import difflib
import importlib
import os
import traceback
from types import ModuleType

from schemas.errors import BadInput
from schemas.moved import sentence

STUDIES = ("bounds", "paired", "mcq", "stress", "procedure", "bets", "conflict")
"""What is asked of models rather than made with them: a paper's experiment each, on problems of one's own."""
PIPELINES = ("arithmetic", "math", "code", "arms", "ensemble", "compare", "sft", "rollouts", *STUDIES)
"""Shipped pipelines: the modules of this package of the same name."""


def _where(error: Exception) -> str:
    """Return the place in a user's own module where importing it failed."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    home = os.path.dirname(os.path.dirname(__file__))
    ours = tuple(os.path.join(home, name) + os.sep for name in ("schemas", "operators", "pipelines"))
    places = [(frame.filename, frame.lineno) for frame in frames if "site-packages" not in frame.filename]
    theirs = [place for place in places if not place[0].startswith((*ours, os.path.dirname(os.__file__), "<frozen"))]
    return f"{theirs[-1][0]}, line {theirs[-1][1]}: " if theirs else ""


def pipeline_module(name: str) -> ModuleType:
    """Return the module of a shipped pipeline, or of a user's own ``package.module``: it has ``Config`` and ``build``.

    Raises:
        BadInput: no such pipeline; the nearest name is offered.
    """
    path = f"pipelines.{name}" if name in PIPELINES else name
    if name not in PIPELINES and "." not in name:
        near = difflib.get_close_matches(name, PIPELINES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadInput(f"no pipeline '{name}'{hint} Shipped: {', '.join(PIPELINES)}; your own: package.module")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise BadInput(f"pipeline '{name}': {sentence(error)}") from error
    except Exception as error:
        if name in PIPELINES:
            raise
        raise BadInput(f"pipeline '{name}': {_where(error)}{type(error).__name__}: {error}") from error
    if not (hasattr(module, "Config") and hasattr(module, "build")):
        raise BadInput(f"pipeline '{name}': module '{path}' must define 'Config' and 'build(config) -> Pipeline'")
    return module
