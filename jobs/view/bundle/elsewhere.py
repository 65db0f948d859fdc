"""What of a run's document is nobody's business where a bundle is read: who told it something and why, its command, the
names of machines, and where files and servers are; of a path or an address the last part stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from schemas.manifest import RunManifest

GONE: dict[str, Any] = {"command": "", "account": None, "orders": [], "paused": None, "waits_for": ""}
"""What a document has instead."""
ADDRESS = re.compile(r"\b(?!hf:)[a-z][a-z0-9+.-]{0,20}://(?:\[[0-9a-f:.%]+\])?[^\s'\"<>,;()\[\]{}]+", re.IGNORECASE)
"""Of anything but public data sets."""
PATH = re.compile(r"(?<![\w.:/~…-])(?:~|\.\.?)?(?:/[^/\s'\"<>,;:()\[\]{}]+){2,}/?")
WHOLE = re.compile(r"(?:~|\.\.?)?/[^:\n'\"]*/[^:\n'\"]+")
"""A path, whatever spaces there are in it."""


def for_others(document: dict[str, Any], manifest: RunManifest) -> dict[str, Any]:
    """Return a run's document as a bundle has it."""
    people = sorted({order.whose for order in manifest.orders}, key=len, reverse=True)

    def clean(text: str) -> str:
        for whose in people:
            text = text.replace(whose, "somebody")
        return _shortened(text)

    shown = {**_everywhere(document, clean), **GONE}
    for stage in shown.get("stages", ()):
        for pool in (stage, *stage.get("roles", {}).values()):
            pool["replicas"] = [{**one, "node": ""} for one in pool.get("replicas", ())]
    return shown


def without_places(document: Any) -> Any:
    """Return a document without where files and servers are."""
    return _everywhere(document, _shortened)


def _shortened(text: str) -> str:
    """Return a text in which the last part alone is left of each path and address."""
    return WHOLE.sub(_last, text) if WHOLE.fullmatch(text) else PATH.sub(_last, ADDRESS.sub(_last, text))


def _last(found: re.Match[str]) -> str:
    path = found[0].partition("://")[2] or found[0]
    parts = [part for part in path.partition("?")[0].split("/") if part]
    return f"…/{parts[-1]}" if len(parts) > 1 else "…"


def _everywhere(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: _everywhere(one, clean) for name, one in value.items()}
    return [_everywhere(one, clean) for one in value] if isinstance(value, list | tuple) else value
