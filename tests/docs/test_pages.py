"""What the documentation shows, done: the tutorial's commands in an empty folder, and every link."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import gristmill

HOME = Path(__file__).resolve().parents[2]
PAGES = sorted([HOME / "README.md", HOME / "CONTRIBUTING.md", HOME / "SECURITY.md", *(HOME / "docs").rglob("*.md")])
SCRIPTS = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = re.compile(r"^```(console|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([a-z_]+\.(?:py|yaml))\n")
TUTORIALS = ("budgets", "clusters", "distilling", "experts", "judge", "nights", "searching")
"""Beside the first hour, and ``endpoint.md``, which tests/packaging runs with the small installation."""
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def play(page: Path, folder: Path, more: str = "") -> int:
    """Do what a page shows, in its order, in one folder; return how many commands that were.

    Python and YAML whose first line is a comment with a file's name become this file; each line of a ``console`` block
    that begins with ``$`` is a command, which has to succeed.

    Args:
        more: a command to run at the end.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120"}
    environment.pop("GRISTMILL_ROOT", None)
    commands = 0
    for language, text in [*BLOCKS.findall(page.read_text()), *([("console", f"$ {more}")] if more else [])]:
        name = FILE_NAME.match(text)
        if language != "console":
            if name is not None:
                (folder / name[1]).write_text(text)
            continue
        for line in text.splitlines():
            if not line.startswith("$ "):
                continue  # what a command prints
            command = line.removeprefix("$ ")
            if command.startswith("gristmill ") and not set(command) & {";", ">", "&"}:
                done = gristmill(*shlex.split(command)[1:], cwd=folder, env={"COLUMNS": "120"})
            else:
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
                )
            assert done.returncode == 0, f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            commands += 1
    return commands


def test_the_first_hour_goes_as_the_tutorial_says(tmp_path: Path) -> None:
    """In the page's order, each command in the same folder: what a stranger does."""
    script, *definitions = SCRIPTS.findall((HOME / "docs" / "python.md").read_text())
    (tmp_path / "page.py").write_text(script)
    (tmp_path / "mine.py").write_text("\n".join(definitions))
    # the page about Python, with the same problems
    assert play(HOME / "docs" / "tutorial.md", tmp_path, "python page.py && python -c 'import mine'") > 15


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_goes_as_it_says(name: str, tmp_path: Path) -> None:
    assert play(HOME / "docs" / f"{name}.md", tmp_path) > 2


def test_every_page_with_a_console_is_played() -> None:
    shown = {page.stem for page in PAGES if "```console" in page.read_text()}
    assert shown == {"tutorial", "endpoint", *TUTORIALS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(HOME).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    elsewhere = ("https://", "http://", "mailto:", "reference/")  # the reference is written where the site is built
    links = [link for link, _ in LINK.findall(page.read_text()) if not link.startswith(elsewhere)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_command_that_is_shown_exists() -> None:
    """Commands and operators of all pages, by name: what was renamed is noticed."""
    from jobs.commands.table import PLACES
    from operators import OPERATORS

    rooms = {name.partition(".")[0] for name in OPERATORS if "." in name}
    wrong: list[str] = []
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"(?:^|[`$] ?)gristmill ([a-z][a-z-]*)", text, re.MULTILINE):
            wrong += [f"{page.name}: gristmill {name}"] if name not in PLACES else []
        for name in re.findall(rf"`((?:{'|'.join(sorted(rooms))})\.[a-z_]+)`", text):
            wrong += [f"{page.name}: {name}"] if name not in OPERATORS else []
    assert wrong == []
