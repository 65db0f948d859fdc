"""How an operator is called on plain files: commands that ``gristmill describe`` and ``op NAME --help`` show."""

from __future__ import annotations

import re
import shlex
from typing import Any

from pydantic import ValidationError

from jobs.config.settings import parse_assignments
from operators.base import Operator

NEEDED = {
    "verify.command": ('command=[python3, check.py, "{file}"]',),
    "verify.function": ("function=checks:check",),
    "verify.by_task": ('verifiers={math: verify.math, "*": verify.exact}',),
    "verify.all_of": ("verifiers=[verify.exact, verify.math]",),
    "verify.any_of": ("verifiers=[verify.exact, verify.math]",),
    "verify.cascade": ("verifiers=[verify.exact, verify.math]",),
    "select.several": ("methods=[select.majority, select.top_two]",),
    "synthesize.mix": ("shares={math: 0.5, code: 0.5}",),
}
"""Settings without which an operator isn't one; in an example, as ``--set`` takes them."""
ENGINE = ("engine.kind=openai", "engine.url=http://127.0.0.1:8000/v1", "engine.model=NAME")
"""An engine that every operator can ask, if there is a server."""
OUT = "result.parquet"


def op_examples(name: str, kind: type[Operator], defaults: dict[str, str]) -> tuple[str, ...]:
    """Return a call with all that the operator needs, and one with a setting of its own.

    Args:
        name: as the command line takes it.
        defaults: the operator's settings with their defaults, as ``--set`` takes them.
    """
    missing = [f"{key}=..." for key, field in kind.model_fields.items() if field.is_required()]
    settings = NEEDED.get(name, tuple(missing) if kind.scope != "source" else ("source=problems.jsonl",))
    operator: Any = kind
    try:
        operator = kind(**parse_assignments(settings))
    except ValidationError:  # somebody's own, of which only its author knows what it takes
        settings = tuple(missing)
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
