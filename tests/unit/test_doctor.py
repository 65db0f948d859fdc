"""What ``gristmill doctor`` finds, and that a missing thing is no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.looking import doctor
from jobs.looking.doctor import examine


def test_it_looks_at_everything_and_says_so(tmp_path: Path) -> None:
    found = {one.name.partition(" ")[0]: one for one in examine(str(tmp_path / "not" / "there" / "yet"))}
    assert found["gristmill"].state == found["ray"].state == found["sandbox"].state == found["root"].state == "ok"
    assert {"machine", "GPUs", "slurm", "kubernetes", "/dev/shm", "open"} <= found.keys()
    assert all(one.state == "ok" or one.remedy or one.says for one in found.values())


def test_what_isnt_there_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_installed", lambda module: False)
    found = {one.name: one for one in examine(str(tmp_path))}
    assert found["sandbox"].state == "weaker" and "bwrap" in found["sandbox"].says
    assert found["ray"].state == "weaker" and "pip install 'ray[" in found["ray"].remedy
    assert found["slurm"].state == found["GPUs"].state == "absent"


def test_a_root_that_cant_be_written_ends_with_1(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = "/proc/1"  # nobody writes there
    else:
        place = str(tmp_path)
        tmp_path.chmod(0o500)
    done = CliRunner().invoke(app, ["doctor", "--root", f"{place}/data", "--json"])
    assert done.exit_code == 1
    assert "can't be written" in next(one["says"] for one in json.loads(done.stdout) if one["state"] == "missing")
