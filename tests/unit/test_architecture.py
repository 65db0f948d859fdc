"""The borders between the five packages, read from the source: who imports whom, and who imports Ray and engines."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HOME = Path(__file__).resolve().parents[2]
LAYERS = ("schemas", "operators", "pipelines", "cluster", "jobs")
"""Each may import itself and what stands before it."""
HOMES = {
    "ray": ("cluster/ray/", "jobs/submit/ray.py"),
    "vllm": ("cluster/engines/",),
    "xllamacpp": ("cluster/engines/",),
    "transformers": ("cluster/engines/",),
    "torch": ("cluster/engines/",),
}
"""Heavy packages, and the only places that may import them."""
MODULES = sorted(path.relative_to(HOME).as_posix() for layer in LAYERS for path in (HOME / layer).rglob("*.py"))


class Import(NamedTuple):
    """One imported module and where."""

    name: str
    line: int

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def imports(source: str, package: str = "") -> Iterator[Import]:
    """Yield everything a source imports, at any depth: statements, and literals given to ``import_module``.

    Args:
        package: the dotted package the source is in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno)
            case ast.ImportFrom(module=module, level=0):
                yield Import(module or "", node.lineno)
            case ast.ImportFrom(module=module, level=level):
                parents = package.split(".")
                base = parents[: len(parents) - level + 1]
                yield Import(".".join([*base, module] if module else base), node.lineno)
            case ast.Call(
                func=(
                    ast.Name(id="import_module" | "__import__" | "find_spec")
                    | ast.Attribute(attr="import_module" | "find_spec")
                ),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(name, node.lineno)


def imports_of(module: str) -> list[Import]:
    return list(imports((HOME / module).read_text(), module.rpartition("/")[0].replace("/", ".")))


def test_reader_finds_imports_of_every_form() -> None:
    source = """
import ray.util
def f():
    from torch import nn
    from . import near
    from ..other import far
    importlib.import_module("vllm.engine")
    import_module("transformers")
"""
    names = ["ray.util", "torch", "cluster.engines", "cluster.other", "vllm.engine", "transformers"]
    assert sorted(found.name for found in imports(source, "cluster.engines")) == sorted(names)


def test_there_is_something_to_check() -> None:
    assert {module.partition("/")[0] for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_one_way(module: str) -> None:
    above = LAYERS[LAYERS.index(module.partition("/")[0]) + 1 :]
    wrong = [f"{module}:{found.line} imports {found.name}" for found in imports_of(module) if found.top in above]
    assert not wrong, f"schemas <- operators <- pipelines <- cluster <- jobs: {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_at_the_edge(module: str) -> None:
    wrong = [
        f"{module}:{found.line} imports {found.name}; only {' and '.join(HOMES[found.top])} may"
        for found in imports_of(module)
        if found.top in HOMES and not module.startswith(HOMES[found.top])
    ]
    assert not wrong, wrong


def test_light_modules_load_nothing_heavy() -> None:
    light = [
        module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for module in MODULES
        if module.startswith("schemas/") or module in ("operators/base.py", "pipelines/graph.py")
    ]
    assert {"schemas", "schemas.datasets", "operators.base", "pipelines.graph"} <= set(light)
    code = f"""
import importlib, json, sys
for name in {light!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}} & set({sorted(HOMES)!r}))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
