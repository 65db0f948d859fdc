"""What attributes of classes mean: the texts that stand under them in the source (attribute docstrings, PEP 257).

They are read when somebody asks; settings and contracts cost nothing for being explained.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache


@cache
def explanations(owner: type) -> dict[str, str]:
    """Return the meanings of a class's attributes by name, its own and those of its bases, in that order of MRO."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.partition(".")[0] in ("builtins", "pydantic", "abc"):
            continue
        found.update(_of_module(base.__module__).get(base.__qualname__, {}))
    return found


def summary(owner: object) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(owner) or "").split("\n\n")[0].split())


@cache
def _of_module(name: str) -> dict[str, dict[str, str]]:
    """Return the explained attributes of each class of a module, by its qualified name."""
    module = sys.modules.get(name)
    if module is None or not getattr(module, "__file__", None):
        return {}
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, SyntaxError):
        return {}
    found: dict[str, dict[str, str]] = {}
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[prefix + child.name] = _of_class(child)
                waiting.append((f"{prefix}{child.name}.", child))
    return found


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, below in zip(node.body, node.body[1:], strict=False):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if not isinstance(text, str):
            continue
        targets = (
            [statement.target] if isinstance(statement, ast.AnnAssign)
            else statement.targets if isinstance(statement, ast.Assign) else []
        )  # fmt: skip
        said = inspect.cleandoc(text)
        found.update((target.id, said) for target in targets if isinstance(target, ast.Name))
    return found
