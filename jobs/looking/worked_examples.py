"""Commands that ``gristmill describe`` and ``op NAME --help`` show: whole ones, which are taken as they stand."""

from __future__ import annotations

import re
import shlex
from typing import Any

from pydantic import ValidationError

from jobs.config.settings import parse_assignments
from operators.base import Operator
from operators.strategies.words import POLICY

NEEDED = {
    "verify.command": ('command=[python3, check.py, "{file}"]',),
    "verify.function": ("function=checks:check",),
    "verify.by_task": ('verifiers={math: verify.math, "*": verify.exact}',),
    "verify.all_of": ("verifiers=[verify.exact, verify.math]",),
    "verify.any_of": ("verifiers=[verify.exact, verify.math]",),
    "verify.cascade": ("verifiers=[verify.exact, verify.math]",),
    "select.several": ("methods=[select.majority, select.top_two]",),
    "synthesize.mix": ("shares={math: 0.5, code: 0.5}",),
    "prompt_choice": (
        "by=likelihood",
        'prompts=["{prompt}\\n\\nThink first.", "{prompt}\\n\\nBe brief."]',
    ),
    "verdict": ("verifier=verify.math",),
    "replay": ("samples=samples.parquet",),
}
"""Settings without which an operator, a strategy, a scorer or an engine isn't one; as ``--set`` takes them."""
ENGINE = ("engine.kind=openai", "engine.url=http://127.0.0.1:8000/v1", "engine.model=NAME")
"""An engine that every operator can ask, if there is a server."""
OUT = "result.parquet"
SOURCE = ("--set", "load.source=problems.jsonl")


def examples_of(kind: str, name: str, found: Any, defaults: dict[str, str]) -> tuple[str, ...]:
    """Return commands that use what is described.

    Args:
        kind: as ``gristmill describe`` has it.
        found: its class.
        defaults: its settings with their defaults, as ``--set`` takes them.
    """
    if kind == "operator":
        return _on_files(name, found, defaults)
    if kind == "pipeline":
        return f"gristmill run {name}", f"gristmill job init {name}.yaml --pipeline {name}"
    if kind == "policy":
        # one that chooses among stages needs a pipeline that has several
        return (_run(f"sample.policy={name}", pipeline="arms" if name == "compute_optimal" else "math"),)
    if kind == "engine":
        settings = _settings_of(found, name)
        return (_run(f"engine.kind={name}", *(f"engine.{one}" for one in settings)),)
    if kind == "strategy":
        settings = _settings_of(found, name)
        chosen = [f"sample.strategy.name={name}", *(f"sample.strategy.{one}" for one in settings)]
        strategy = _made(found, settings)
        alone = [f"sample.n={strategy.rows}"] if strategy is not None and strategy.all_greedy(1.0) else []
        asked = () if strategy is None else strategy.asks
        return (_run(*(chosen if settings else [f"sample.strategy={name}"]), *alone, *_engines(asked)),)
    if kind == "scorer":
        settings = _settings_of(found, name)
        scorer = _made(found, settings)
        given = f"{{name: {name}, {', '.join(one.replace('=', ': ', 1) for one in settings)}}}" if settings else name
        roles = () if scorer is None or scorer.asks in (None, POLICY) else (scorer.asks,)
        return (_run(f"sample.strategy={{name: best_of, scorer: {given}}}", *_engines(roles)),)
    return ()


def _run(*settings: str, pipeline: str = "math") -> str:
    return shlex.join(["gristmill", "run", pipeline, *SOURCE, *(word for one in settings for word in ("--set", one))])


def _engines(roles: tuple[str, ...]) -> list[str]:
    """Return settings of an engine for each role."""
    return [one for role in roles for one in (f"engines.{role}.kind=openai", f"engines.{role}.model=NAME")]


def _settings_of(kind: Any, name: str) -> tuple[str, ...]:
    """Return the settings that must be given."""
    missing = [key for key, field in kind.model_fields.items() if field.is_required()]
    return NEEDED.get(name) or tuple("model=NAME" if key == "model" else f"{key}=VALUE" for key in missing)


def _made(kind: Any, settings: tuple[str, ...]) -> Any:
    """Return what these settings make; None of somebody's own, of which only its author knows what it takes."""
    try:
        return kind(**parse_assignments(settings))
    except ValidationError:
        return None


def _on_files(name: str, kind: type[Operator], defaults: dict[str, str]) -> tuple[str, ...]:
    """Return a call with all that an operator needs, and one with a setting of its own."""
    settings = _settings_of(kind, name) if kind.scope != "source" else ("source=problems.jsonl",)
    operator: Any = _made(kind, settings) or kind
    reads: Any = operator.inputs if isinstance(operator.inputs, dict) else {}
    words = ["gristmill", "op", name]
    for one in reads:
        words += ["--in", f"{one}={one}.parquet"] if one not in operator.optional or len(reads) == 1 else []
    engine = ENGINE if isinstance(operator.tools, tuple) and "engine" in operator.tools else ()
    for setting in (*settings, *engine):
        words += ["--set", setting]
    words += ["--out", OUT]
    given = {setting.partition("=")[0] for setting in settings}
    plain = [f"{key}={text}" for key, text in defaults.items() if key not in given and re.fullmatch(r"[\w.]+", text)]
    return (shlex.join(words), *(shlex.join([*words, "--set", one]) for one in plain[:1]))
