"""What tests come to, and what of a namespace is theirs."""

from __future__ import annotations

import types
from typing import Any


class Cannot(Exception):
    """The tests themselves can't be run."""


class Failed(Exception):
    """A test failed."""


def is_own(value: Any) -> bool:
    """Whether something is a function that the tests define, decorated or not."""
    while hasattr(value, "__wrapped__") and isinstance(value, types.FunctionType):
        value = getattr(value, "__wrapped__")  # noqa: B009  (which plain functions lack)
    return isinstance(value, types.FunctionType) and value.__code__.co_filename == "tests"
