"""Tests that import the program they test: ``from solution import add``."""

from __future__ import annotations

import ast
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

NAMES = frozenset(
    ("solution", "solutions", "main", "program", "submission", "answer", "candidate", "implementation", "your_module")
)
"""What files with programs are called by those who write tests for them."""


class Program(types.ModuleType):
    """The program as a module: its names are asked for as the tests ask for them.

    Args:
        find: returns what the program calls by a name, or raises KeyError.
    """

    def __init__(self, name: str, find: Callable[[str], Any]) -> None:
        super().__init__(name)
        self.__dict__["_find"] = find

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_find"](name)
        except KeyError:
            raise AttributeError(f"the program has no '{name}'") from None


def lend(tests: str, find: Callable[[str], Any]) -> None:
    """Let tests import the program under the names by which they do, where no module is called so.

    A name that is none of ``NAMES`` is the program's if the program has all that is imported from it.
    """
    for name, wanted in _imported(tests):
        if name in sys.modules and not isinstance(sys.modules[name], Program):
            continue
        if name not in sys.modules and importlib.util.find_spec(name) is not None:
            continue
        if name in NAMES or (wanted and all(_has(find, one) for one in wanted)):
            sys.modules[name] = Program(name, find)


def _imported(tests: str) -> Iterator[tuple[str, list[str]]]:
    """Yield modules that are imported by a name without stops, and what is imported from each."""
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if "." not in alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and "." not in node.module and not node.level:
            yield node.module, [alias.name for alias in node.names if alias.name != "*"]


def _has(find: Callable[[str], Any], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
