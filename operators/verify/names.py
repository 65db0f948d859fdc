"""The names in a piece of Python: which it defines, which it takes from elsewhere, and which of those a test tests."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__builtins__"}
_ALIASES = {
    "np": "import numpy as np",
    "numpy": "import numpy",
    "pd": "import pandas as pd",
    "pandas": "import pandas",
    "plt": "import matplotlib.pyplot as plt",
    "nx": "import networkx as nx",
    "scipy": "import scipy",
    "sympy": "import sympy",
    "torch": "import torch",
    "pytest": "import pytest",
    "mock": "from unittest import mock",
    "dt": "import datetime as dt",
}
_METHODS_OF_DATETIME = {"now", "today", "strptime", "fromisoformat", "fromtimestamp", "utcnow", "combine"}
_FROM = {
    "math": "isclose sqrt pi inf nan isnan isinf isfinite floor ceil factorial fabs hypot",
    "collections": "Counter deque defaultdict OrderedDict namedtuple ChainMap",
    "datetime": "date timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": "Path PurePath PurePosixPath PureWindowsPath",
    "uuid": "UUID",
    "enum": "Enum IntEnum",
    "typing": "List Dict Tuple Set Optional Any Union Callable Iterator Iterable Sequence",
    "itertools": "permutations combinations product chain islice zip_longest accumulate groupby",
    "functools": "reduce partial cmp_to_key",
    "io": "StringIO BytesIO",
    "copy": "deepcopy",
    "contextlib": "redirect_stdout suppress",
    "dataclasses": "dataclass",
    "unittest": "TestCase",
    "unittest.mock": "patch MagicMock Mock",
    "pytest": "approx raises",
    "types": "SimpleNamespace GeneratorType",
}
"""Names that tests use as if they had imported them. They count as such only where something else is left to test."""
_WORD = re.compile(r"[A-Za-z_]\w*")
_OWNERS = {name: module for module, names in _FROM.items() for name in names.split()}
_KNOWN = {*_OWNERS, *_ALIASES, *sys.stdlib_module_names}


@dataclass(frozen=True)
class Names:
    """What a piece of Python has to do with names."""

    defined: frozenset[str] = frozenset()
    """At its top, also below an ``if`` or ``try`` there."""
    used: frozenset[str] = frozenset()
    """What it takes from elsewhere; Python's own names aren't among them."""
    star: bool = False
    """It imports everything from some module, so that it may define more."""


@dataclass(frozen=True)
class Tested:
    """What tests need."""

    names: frozenset[str] = frozenset()
    """What the program has to define."""
    imports: str = ""
    """Python that imports what the tests forgot to import: it must not come from the program, which could fake it."""


@dataclass
class _Uses(ast.NodeVisitor):
    """How names are used: called, or as what something is taken from."""

    called: set[str] = field(default_factory=set[str])
    attributes: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name):
            self.called.add(node.func.id)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self.attributes.setdefault(node.value.id, set()).add(node.attr)
        self.generic_visit(node)


@lru_cache(maxsize=512)
def names_of(source: str) -> Names | None:
    """Return a source's names, None where it isn't Python."""
    tree = parsed(source)
    if tree is None:
        return None
    try:
        top = symtable.symtable(source, "names", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used: set[str] = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    for table in _below(top):
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                used.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                defined.add(symbol.get_name())
    star = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body)
    return Names(frozenset(defined), frozenset(used - defined - _BUILTINS), star)


def parsed(source: str) -> ast.Module | None:
    """Return a source's syntax tree, None where it isn't Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=512)
def tested(tests: str, entry_point: str | None, prefix: str) -> Tested:
    """Return what tests test, given what they are told to and the code that they may rely on."""
    if entry_point and not _KNOWN & {*_WORD.findall(tests)}:
        return Tested(frozenset({entry_point}))  # as most do: nothing that could have been forgotten
    found = names_of(tests)
    if found is None:
        return Tested(frozenset({entry_point} if entry_point else ()))
    own = names_of(made_whole(prefix)) or Names()
    missing = set(found.used) - (own.defined - {entry_point})
    if missing <= {entry_point}:
        return Tested(frozenset({entry_point} if entry_point else ()))
    uses = _Uses()
    tree = parsed(tests)
    assert tree is not None
    uses.visit(tree)
    given = missing - {entry_point}
    imports = {name: line for name in sorted(given) if (line := _module(name, uses)) is not None}
    likely = {name for name in given - {*imports} if name in _OWNERS}
    if entry_point or given - {*imports} - likely:
        imports.update({name: f"from {_OWNERS[name]} import {name}" for name in sorted(likely)})
    names = frozenset(missing - {*imports})
    return Tested(names | {entry_point} if entry_point else names, "".join(map(_guarded, imports.values())))


def made_whole(prefix: str) -> str:
    """Return code that may end in the head of a function with a body for it, so that it is Python."""
    for ending in ("", "\n    pass\n", "\n        pass\n"):
        if parsed(whole := prefix.rstrip() + ending) is not None:
            return whole
    return prefix


def _module(name: str, uses: _Uses) -> str | None:
    """Return the line that imports what a name stands for if it is a module, as its use shows."""
    taken = uses.attributes.get(name, set())
    if name == "datetime" and (name in uses.called or taken & _METHODS_OF_DATETIME):
        return "from datetime import datetime"  # the class, which is called like its module
    if not taken or name in uses.called:
        return None
    return _ALIASES.get(name) or (f"import {name}" if name in sys.stdlib_module_names else None)


def _guarded(line: str) -> str:
    """An import of what may not be installed must not keep the others from being there."""
    return f"try:\n    {line}\nexcept ImportError:\n    pass\n"


def defines(source: str, name: str) -> bool:
    """Whether a source defines a name at its top; a source that isn't Python is looked through line by line."""
    found = names_of(source)
    if found is not None:
        return name in found.defined
    return re.search(definition(name), source) is not None


def definition(name: str) -> str:
    """Return a pattern for the line in which a name is defined, decorators included."""
    return (
        rf"(?m)^(?:@[^\n]*\n)*(?:async\s+def|def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*(?::[^=\n]*)?=(?!=)"
    )


def _below(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _below(child)
