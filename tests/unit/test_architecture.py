"""What is light stays light. Who may import whom is a matter of ``lint-imports`` (contracts in pyproject.toml)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
HEAVY = {"ray", "vllm", "xllamacpp", "transformers", "torch"}


def test_light_modules_load_nothing_heavy() -> None:
    schemas = [f"schemas.{path.stem}" for path in (HOME / "schemas").glob("*.py") if path.stem != "__init__"]
    light = [*schemas, "operators.base", "pipelines.graph"]
    assert {"schemas.datasets", "schemas.job"} <= set(light)
    code = f"""
import importlib, json, sys
for name in {light!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
