"""The table of commands is what the modules have; nothing is imported that a command doesn't need."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import jobs.commands
from jobs.commands.table import PLACES, ByName
from pipelines.arithmetic import Config

HEAVY = {
    "numpy",
    "scipy",
    "pyarrow",
    "ray",
    "altair",
    "dataframely",
    "sqlalchemy",
    "deltalake",
    "reasoning_gym",
    "aiohttp",
}
"""What takes long to import, and only some commands use."""
HOME = Path(__file__).resolve().parents[2]


def test_the_table_names_every_command_of_every_module() -> None:
    found: set[str] = set()
    for info in pkgutil.iter_modules(jobs.commands.__path__):
        for attribute in vars(importlib.import_module(f"jobs.commands.{info.name}")).values():
            if isinstance(attribute, typer.Typer):
                group = typer.main.get_group(attribute)
                found |= {*group.commands} if attribute.info.help is None or not group.help else set()
    assert found == {name for name, place in PLACES.items() if not place.group}


def test_every_command_is_found_and_says_of_itself_what_the_table_says() -> None:
    commands = ByName()
    for name, place in PLACES.items():
        full = " ".join((commands[name].help or "").split())
        begins = place.help.split(" ")[:3]
        assert full.split(" ")[:3] == begins, f"{name}: the table says {place.help!r}, the command {full!r}"


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"rich", "pydantic", "polars", "importlib.metadata"}),
        (["--version"], {"rich", "pydantic", "polars", "importlib.metadata"}),
        (["op", "--help"], {"polars", *HEAVY}),
        (["op", "verify.math", "--help"], {"polars", "markdown_it", *HEAVY}),
        (["describe", "measure.forecast"], {"polars", *HEAVY}),
        (["runs", "--root", "ROOT"], {"polars", *HEAVY}),
        (["validate", "JOB"], HEAVY),
    ],
)
def test_what_a_command_loads(arguments: list[str], absent: set[str], tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("pipeline: arithmetic\n")
    if "validate" in arguments:  # its tasks are generated once, which takes all that the package takes
        Config().load.run()
    arguments = [str(tmp_path) if word == "ROOT" else word for word in arguments]
    arguments = [str(job) if word == "JOB" else word for word in arguments]
    code = f"""
import json, sys
sys.argv = ["gristmill", *{arguments!r}]
from jobs.cli import main
try:
    main()
finally:
    print(json.dumps([*sys.modules]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not absent & {*json.loads(done.stderr.strip().splitlines()[-1])}
