"""Keys never reach a log, a manifest or an error: every text that leaves the process goes through ``redact``.

What is secret is known from two places: environment variables whose name says so, and what ``protect`` was told (for
example credentials read from a profile).
"""

from __future__ import annotations

import os
import re

_NAMES = re.compile(r"(SECRET|TOKEN|PASSWORD|CREDENTIALS?|_KEY|ACCESS_KEY_ID)$", re.IGNORECASE)
_SHORTEST = 4
"""Shorter values aren't replaced: they would be found everywhere."""
_protected: set[str] = set()


def protect(*values: str | None) -> None:
    """Remember values that no text may show."""
    _protected.update(value for value in values if value and len(value) >= _SHORTEST)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _NAMES.search(name) is not None


def redact(text: str) -> str:
    """Return ``text`` with every known secret replaced by asterisks."""
    named = {value for name, value in os.environ.items() if is_secret_name(name) and len(value) >= _SHORTEST}
    for secret in sorted(_protected | named, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
