"""What the documentation shows, done: the tutorial's commands in an empty folder, and every link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
PAGES = sorted([HOME / "README.md", HOME / "CONTRIBUTING.md", HOME / "SECURITY.md", *(HOME / "docs").rglob("*.md")])
SCRIPTS = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def test_the_first_hour_goes_as_the_tutorial_says(tmp_path: Path) -> None:
    """In the page's order, each command in the same folder: what a stranger does."""
    blocks = COMMANDS.findall((HOME / "docs" / "tutorial.md").read_text())
    script, *definitions = SCRIPTS.findall((HOME / "docs" / "python.md").read_text())
    (tmp_path / "page.py").write_text(script)
    (tmp_path / "mine.py").write_text("\n".join(definitions))
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) > 15
    commands.append("python page.py && python -c 'import mine'")  # the page about Python, with the same problems
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GRISTMILL_ROOT": str(tmp_path / "data"), "COLUMNS": "120"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


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
