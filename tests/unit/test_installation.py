"""The guard against other people's ``schemas`` or ``jobs``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from schemas.installation import check_installation

HOME = Path(__file__).resolve().parents[2]


def run_guard(folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """Call the guard in another interpreter that has ``path`` before everything else and starts in ``folder``."""
    code = """
from schemas.errors import BadInput
from schemas.installation import check_installation
try:
    check_installation()
except BadInput as error:
    print(f"{error.exit_code} {error}")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )


def test_accepts_this_installation() -> None:
    check_installation()


def test_accepts_this_installation_from_another_folder(tmp_path: Path) -> None:
    done = run_guard(tmp_path, HOME)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_names_a_package_that_shadows_ours(tmp_path: Path) -> None:
    rogue = tmp_path / "rogue"
    (rogue / "jobs").mkdir(parents=True)
    (rogue / "jobs" / "__init__.py").write_text("raise RuntimeError('the guard must not import what it looks for')")
    empty = tmp_path / "empty"
    empty.mkdir()

    done = run_guard(empty, rogue, HOME)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ")
    assert f"'jobs' is {rogue / 'jobs'}, expected {HOME / 'jobs'}" in done.stdout
    assert "'schemas'" not in done.stdout, "only the foreign package is named"
    assert "PYTHONPATH" in done.stdout, "the message says what to look at"


def test_names_a_module_that_shadows_a_package(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("raise RuntimeError('the guard must not import what it looks for')")

    done = run_guard(tmp_path, tmp_path, HOME)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 ")
    assert "'jobs'" in done.stdout
