"""A guard against other people's ``schemas`` or ``jobs``: the five packages have plain names, so they must be ours.

Gristmill is an application with an environment of its own. Where another distribution, or a folder on ``PYTHONPATH``,
shadows one of its packages, the wrong code would run on some machines and not on others; this says so at the start.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from schemas.errors import BadInput

PACKAGES = ("schemas", "operators", "pipelines", "cluster", "jobs")


def check_installation() -> None:
    """Refuse to run where one of the five packages isn't beside this one. Imports nothing.

    Raises:
        BadInput: names each foreign package, where it was found, and what to do.
    """
    home = Path(__file__).resolve().parent.parent
    foreign: list[str] = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
        if home / name not in places:
            foreign.append(f"'{name}' is {places[0] if places else 'missing'}, expected {home / name}")
    if foreign:
        raise BadInput(
            f"other packages shadow Gristmill's: {'; '.join(foreign)}. Use an environment of its own, and check "
            "PYTHONPATH and the working directory"
        )
