"""The extras of the installation: what each needs, and the command that installs it.

Gristmill is on no package index, so ``pip install 'gristmill[ray]'`` would fetch whatever a stranger published under
that name. What a message can safely name are the packages that an extra stands for.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from typing import Literal

Extra = Literal["local", "ray", "tokens", "code", "hf"]


def remedy(extra: Extra) -> str:
    """Return the command that installs what an extra needs: ``pip install 'ray[data,default]>=2.50'``."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("gristmill") or []]
    except PackageNotFoundError:  # the source itself, without an installation
        return f"pip install -e '.[{extra}]' in the checkout"
    needed = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
    for one in needed:
        one.marker = None
    return " ".join(["pip install", *(f"'{one}'" for one in needed)])
