"""What is light stays light. Who may import whom is a matter of ``lint-imports`` (contracts in pyproject.toml)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
HEAVY = {"ray", "vllm", "xllamacpp", "transformers", "torch"}
TABLES = {"polars", "numpy", "pyarrow", "deltalake", "sqlalchemy", "dataframely", "scipy"}


def test_light_modules_load_nothing_heavy() -> None:
    schemas = [f"schemas.{path.stem}" for path in (HOME / "schemas").glob("*.py") if path.stem != "__init__"]
    light = [*schemas, "operators.base", "pipelines.graph"]
    assert {"schemas.datasets", "schemas.job"} <= set(light)
    assert not _loaded_by(light) & HEAVY


def test_the_command_line_is_there_before_anything_is_loaded_that_works_on_data() -> None:
    assert not _loaded_by(["jobs.cli"]) & (HEAVY | TABLES)


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
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout)}
