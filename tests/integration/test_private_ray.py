"""A Ray that a run starts on its machine is nobody else's: loopback, a token of mode 0600, folders of mode 0700."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster.ray.private import keep_token_private, private_folder
from cluster.ray.runner import RayRunner
from schemas.errors import ClusterLost

LISTENING = """
import json, os, sys
from cluster.ray.runner import RayRunner
from tests.chaos.support import descendants
runner = RayRunner()
runner._start(2)
import ray
ray.get(ray.remote(lambda: 1).remote())
sockets = set()
for pid in [os.getpid(), *(child for child, _ in descendants(os.getpid()))]:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        continue
    sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
found = []
for family in ("tcp", "tcp6"):
    for line in open(f"/proc/net/{family}").read().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in sockets:
            found.append(fields[1])
session = ray._private.worker._global_node.get_session_dir_path()
print(json.dumps([found, session]))
runner.close()
"""


@pytest.mark.ray
def test_it_listens_on_the_loopback_interface_only(tmp_path: Path) -> None:
    """Under another home, so that there is no token yet."""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    environment = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    listening, session = json.loads(done.stdout.splitlines()[-1])
    assert listening
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")
    assert [address for address in listening if not address.startswith(loopback)] == []
    assert stat.S_IMODE(os.stat(Path(session).parents[1]).st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".ray/auth_token").stat().st_mode) == 0o600


def test_a_token_that_others_may_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".ray/auth_token"
    path.parent.mkdir()
    path.write_text("told")
    path.chmod(0o644)
    keep_token_private()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "told"


@pytest.mark.parametrize("before", ["nothing", "open", "a link", "a file"])
def test_the_folder_is_private_whatever_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("cluster.ray.private.LONGEST", 200)
    path = tmp_path / f"gristmill-{os.getuid()}"
    if before == "open":
        path.mkdir()
        path.chmod(0o777)
    elif before == "a link":
        (tmp_path / "other").mkdir()
        path.symlink_to(tmp_path / "other")
    elif before == "a file":
        path.write_text("")
    found = Path(private_folder()).parent
    assert found.is_dir() and not found.is_symlink()
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert (found == path) == (before in ("nothing", "open"))


def test_a_long_temporary_folder_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 60)))
    assert len(private_folder()) <= 40


def test_a_ray_that_doesn_t_start_in_time_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is too busy, Ray raises a bare ``Exception``."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. Some of the raylet failed.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterLost, match=r"didn't start in time.*the same command goes on") as caught:
        RayRunner()._start(1)  # pyright: ignore[reportPrivateUsage]
    assert caught.value.exit_code == 3
