"""What is light stays light. Who may import whom is a matter of ``lint-imports`` (contracts in pyproject.toml)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
HEAVY = {"ray", "vllm", "xllamacpp", "cyllama", "transformers", "torch"}
SERVERS = {"starlette", "uvicorn"}
TABLES = {"polars", "numpy", "pyarrow", "deltalake", "sqlalchemy", "dataframely", "scipy"}


def test_light_modules_load_nothing_heavy() -> None:
    schemas = [f"schemas.{path.stem}" for path in (HOME / "schemas").glob("*.py") if path.stem != "__init__"]
    light = [*schemas, "operators.base", "pipelines.graph"]
    assert {"schemas.datasets", "schemas.job"} <= set(light)
    assert not _loaded_by(light) & HEAVY


def test_the_command_line_is_there_before_anything_is_loaded_that_works_on_data() -> None:
    assert not _loaded_by(["jobs.cli"]) & (HEAVY | TABLES | SERVERS)


def test_a_plan_needs_no_scipy() -> None:
    assert "scipy" not in _loaded_by(["jobs.running.run", "operators.load.load", "operators.verify.exact"])


def _loaded_by(modules: list[str]) -> set[str]:
    """Return the packages that a fresh interpreter has once it has imported these."""
    code = f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout)}


def test_the_desk_alone_calls_engines() -> None:
    """Operators ask what they are handed, and a run hands them a desk; ``bench-engine`` measures engines as such."""
    calls: dict[str, set[str]] = {}
    for package in ("cluster", "jobs", "pipelines"):
        for path in (HOME / package).rglob("*.py"):
            name = path.relative_to(HOME).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
                if called in ("generate", "score", "grow_tree") and not name.startswith("cluster/engines/"):
                    calls.setdefault(name, set()).add(called)
    assert calls == {
        "cluster/working/desk.py": {"generate", "score", "grow_tree"},
        "cluster/working/serving.py": {"generate", "score", "grow_tree"},  # the far end of desks in other workers
        "jobs/bench/measure.py": {"generate"},
    }
    handed = {
        path.relative_to(HOME).as_posix()
        for package in ("cluster", "jobs", "pipelines", "operators")
        for path in (HOME / package).rglob("*.py")
        if "build_engine(" in path.read_text() or "to_thread(build_engine" in path.read_text()
    }
    # these make engines: two hand out desks, one renders prompts, one measures
    assert handed == {
        "cluster/engines/__init__.py", "cluster/working/engine_worker.py", "jobs/looking/op.py",
        "jobs/running/prompts.py", "jobs/bench/benchmark.py",
    }  # fmt: skip
