"""Everything but the Ray runner works where Ray isn't installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "operators", "pipelines", "cluster", "jobs")

BLOCK = """
import sys

class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRay())
"""
"""Makes ``import ray`` fail as it does where Ray isn't installed."""

OPTIONAL = {"vllm", "transformers", "datasets", "torch"}
"""What the extras bring: modules that import one of these may fail where it isn't installed, and only for that."""

COMMAND = ["run", "arithmetic", "--limit", "2", "--set", "sample.n=4", "--set", "engine.kind=scripted"]


def run_without_ray(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRISTMILL_")}
    environment["PYTHONPATH"] = str(HOME)
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def gristmill(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_without_ray("from jobs.cli import main; main()", *arguments, folder=folder)


def test_only_the_ray_modules_need_ray(tmp_path: Path) -> None:
    modules: dict[str, str] = {}
    for package in PACKAGES:
        for file in sorted((HOME / package).rglob("*.py")):
            path = file.relative_to(HOME)
            name = ".".join(path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts)
            modules[name] = path.as_posix()
    code = """
import importlib, json
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed[name] = error.name
print(json.dumps(failed))
"""

    done = run_without_ray(code, *modules, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    needs_ray = {
        name: "ray"
        for name, path in modules.items()
        if (path.startswith("cluster/ray/") and not path.endswith("__init__.py")) or path == "jobs/submit/ray.py"
    }
    assert "cluster.ray.runner" in needs_ray
    failed = json.loads(done.stdout)
    assert {name: cause for name, cause in failed.items() if cause not in OPTIONAL} == needs_ray


def test_a_pipeline_runs_locally(tmp_path: Path) -> None:
    done = gristmill(*COMMAND, "--root", str(tmp_path / "data"), folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "data" / "runs").glob("*/report.html"))


def test_the_ray_runner_says_that_ray_is_missing(tmp_path: Path) -> None:
    done = gristmill(*COMMAND, "--runner", "ray", "--root", str(tmp_path / "data"), folder=tmp_path)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "Ray isn't installed" in done.stderr
    assert "--runner local" in done.stderr
    assert "Traceback" not in done.stderr
