"""The table of commands is what the modules have; nothing is imported that a command doesn't need."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import re
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
FILES = {"asyncio", "fsspec", "ssl", "rich.console", "rich.table"}
"""Other machines' files, and tables for people."""
ENGINES = {"operators.engine", "operators.sandbox", "operators.verify.reading.reader", "operators.strategies.episode"}
"""What work is done with, and settings do without."""
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
        (["runs", "--root", "ROOT"], {"polars", "rich", *FILES, *HEAVY}),
        (["export", "none", "--root", "ROOT"], {"polars", "rich", *FILES, *HEAVY}),
        (["validate", "sums.yaml"], {"rich", *FILES, *ENGINES, *HEAVY}),
        (["validate", "math.yaml"], {"rich", *FILES, *ENGINES, *HEAVY}),
    ],
)
def test_what_a_command_loads(arguments: list[str], absent: set[str], tmp_path: Path) -> None:
    (tmp_path / "sums.yaml").write_text("pipeline: arithmetic\n")
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "What is 2 + 2?", "answer": "4"}\n')
    (tmp_path / "math.yaml").write_text(f"pipeline: math\nsettings: {{load: {{source: {problems}}}}}\n")
    if "sums.yaml" in arguments:  # its tasks are generated once, which takes all that the package takes
        Config().load.run()
    arguments = [str(tmp_path) if word == "ROOT" else word for word in arguments]
    arguments = [str(tmp_path / word) if word.endswith(".yaml") else word for word in arguments]
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
    assert done.returncode == (2 if "none" in arguments else 0), done.stderr[-2000:]
    assert not absent & {*json.loads(done.stderr.strip().splitlines()[-1])}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "arithmetic"],
        ["plan", "arithmetic"],
        ["report", "latest"],
        ["export", "latest", "--format", "messages", "--to", "there"],
        ["cost", "latest"],
        ["diff", "latest", "latest"],
        ["simulate", "counts.parquet"],
        ["check-golds", "problems.jsonl"],
        ["op", "verify.math", "--in", "samples.parquet", "--out", "verdicts.parquet"],
        ["bench-engine", "arithmetic"],
        ["verify-data", "latest"],
        ["gather", "other"],
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "terminal" if value else "pipe",
)
def test_something_is_said_before_anything_takes_a_while(arguments: list[str], terminal: bool, tmp_path: Path) -> None:
    code = f"""
import os, sys
class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name in {sorted({"polars", *HEAVY})!r}:
            os._exit(77)
sys.meta_path.insert(0, Waiting())
sys.argv = ["gristmill", *{arguments!r}]
sys.path.append({str(HOME)!r})
from jobs.cli import main
main()
"""
    ours, its = os.openpty() if terminal else os.pipe()
    with open(ours, "rb", buffering=0) as reading:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=its, stderr=its, timeout=120)
        os.close(its)
        said = b""
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
            while more := reading.read(4096):
                said += more
    assert done.returncode == 77, said.decode()
    assert re.match(rb"[^\n]+: (reading|writing|adding)[^\n]+\r?\n$", said), said
