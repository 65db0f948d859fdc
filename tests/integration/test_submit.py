"""One job file, submitted everywhere: to this machine, to a Ray job server, to a real Slurm; each time cut off once."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests import commands

JOB = """\
pipeline: arithmetic
name: sums
root: {root}
settings:
  load: {{size: 5}}
  sample: {{n: 32}}
  engine: {{kind: scripted, answers: ["0", "1", "2"], latency: 0.25, slots: 4}}
run: {{flush_seconds: 0.3, commit_seconds: 0.1}}
environment: {{GRISTMILL_TEST: "yes"}}
notify: [{{kind: command, command: ["true"]}}]
resources:
  groups: [{{cpus: 2, memory_gb: 2}}]
  hours: 0.25
  ray: {{address: "{address}"}}
  slurm: {{notice_seconds: 30}}
"""
ROWS = 5 * 32


def gristmill(folder: Path, *arguments: str, ok: bool = True, **environment: str) -> str:
    """Run a command in a folder; return what it printed."""
    done = commands.gristmill(*arguments, cwd=folder, env=environment)
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done.stdout if ok else done.stdout + done.stderr


class Submitted:
    """A job on its way."""

    def __init__(self, folder: Path, to: str, address: str = "", runner: str = "ray", **environment: str) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.environment = environment
        self.looked = time.monotonic()
        (folder / "job.yaml").write_text(JOB.format(root=self.root, address=address) + f"runner: {runner}\n")
        self.record: dict[str, Any] = json.loads(self.call("submit", "job.yaml", "--to", to, "--json"))

    def call(self, *arguments: str) -> str:
        return gristmill(self.folder, *arguments, **self.environment)

    def status(self) -> dict[str, Any]:
        return json.loads(self.call("status", self.record["id"], "--root", str(self.root), "--json"))

    def wait(self, *states: str, seconds: float = 300.0) -> dict[str, Any]:
        """Wait until the submission is in one of some states."""
        until = time.monotonic() + seconds
        while (found := self.status())["state"] not in states:
            if time.monotonic() > until:
                raise AssertionError(
                    f"still {found['state']}:\n{self.call('logs', self.record['id'], '--root', str(self.root))}"
                )
            time.sleep(0.5)
        return found

    def wait_for_samples(self, than: int = 0, seconds: float = 300.0) -> None:
        """Wait until there are more samples ``than`` so many."""
        until = time.monotonic() + seconds
        while not list(self.root.glob("samples/*/_delta_log/*3.json")) or len(self.keys()) <= than:
            if time.monotonic() > until or time.monotonic() > self.looked + 10:
                self.looked = time.monotonic()
                found = self.status()["state"]
                logs = self.call("logs", self.record["id"], "--root", str(self.root))
                assert time.monotonic() < until and found not in ("failed", "done"), logs
            time.sleep(0.05)

    def keys(self) -> list[tuple[str, int]]:
        """Return the keys of all samples, sorted: each once."""
        [folder] = self.root.glob("samples/*")
        return sorted(pl.read_delta(str(folder)).select("problem_key", "sample_index").rows())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """The row keys of the job, run here by hand."""
    folder = tmp_path_factory.mktemp("by-hand")
    (folder / "job.yaml").write_text(JOB.format(root=folder / "root", address=""))
    gristmill(folder, "run", "job.yaml", "--runner", "local")
    [samples] = (folder / "root").glob("samples/*")
    keys = sorted(pl.read_delta(str(samples)).select("problem_key", "sample_index").rows())
    assert len(keys) == ROWS
    return keys


def test_this_machine(tmp_path: Path, expected: list[tuple[str, int]]) -> None:
    job = Submitted(tmp_path, "local", runner="local")
    job.wait_for_samples()
    os.kill(job.record["attempts"][0]["handle"]["pid"], signal.SIGKILL)
    assert job.wait("killed", "done")["state"] == "killed"
    assert "Traceback" not in job.call("logs", "latest", "--root", str(job.root))
    job.call("resume", job.record["id"], "--root", str(job.root))
    job.wait_for_samples(than=len(job.keys()))
    assert "told to stop" in job.call("cancel", "latest", "--root", str(job.root))
    stopped = job.wait("cancelled", "done")
    assert stopped["state"] == "cancelled", stopped
    assert stopped["runs"][0]["state"] == "interrupted"  # in good order: what was in flight is committed
    job.call("resume", "latest", "--root", str(job.root))
    followed = job.call("logs", "latest", "--follow", "--root", str(job.root))  # until it has ended
    found = job.status()
    assert found["state"] == "done"
    assert "is gone" in found["cluster"]
    assert [run["state"] for run in found["runs"]] == ["done", "interrupted", "killed"]
    assert "sample: 160/160" in followed
    assert followed == job.call("logs", "latest", "--root", str(job.root))
    assert job.keys() == expected
    assert "isn't at work any more" in gristmill(tmp_path, "cancel", "latest", "--root", str(job.root), ok=False)


def answers(url: str) -> bool:
    """Whether a server answers, be it that it wants a token: an open port may have nobody behind it yet."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head with its job server on loopback."""
    ports: list[int] = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    ray = str(Path(sys.executable).with_name("ray"))
    own = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # jobs join whoever began last in Ray's folder; sockets are short
    command = [
        ray, "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--port={ports[0]}",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}", "--num-cpus=4",
        "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={own}",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("ray") / "ray.log"
    activated = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # as in a container
    with log.open("wb") as out:
        head = subprocess.Popen(command, env=activated, stdout=out, stderr=out, start_new_session=True)
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        until = time.monotonic() + 300
        while not answers(f"{address}/api/version"):
            assert time.monotonic() < until and head.poll() is None, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(own, ignore_errors=True)


@pytest.mark.ray
def test_a_ray_job_server(tmp_path: Path, expected: list[tuple[str, int]], ray_head: str) -> None:
    job = Submitted(tmp_path, "ray", ray_head)
    job.wait_for_samples()
    [beat] = job.root.glob("runs/*/heartbeat.json")
    os.kill(json.loads(beat.read_text())["pid"], signal.SIGKILL)
    assert job.wait("killed", "done")["state"] == "killed"
    job.call("resume", job.record["id"], "--root", str(job.root))
    job.wait("done")
    assert job.keys() == expected
    assert "sample" in job.call("logs", "latest", "--root", str(job.root))


@pytest.mark.slurm
@pytest.mark.ray
def test_slurm(tmp_path: Path, expected: list[tuple[str, int]], slurm: dict[str, str]) -> None:
    job = Submitted(tmp_path, "slurm", **slurm)
    job.wait_for_samples()
    [number] = job.record["attempts"][0]["handle"]["jobs"]
    # what Slurm does ahead of the end of a job's time, and where others need its nodes
    subprocess.run(["scancel", "--batch", "--signal=TERM", number], env={**os.environ, **slurm}, check=True)
    found = job.wait("done")
    assert [run["state"] for run in found["runs"]] == ["done", "interrupted"]
    assert "it queues itself again" in job.call("logs", "latest", "--root", str(job.root))
    assert job.keys() == expected


@pytest.mark.long
@pytest.mark.slurm
@pytest.mark.ray
def test_shards_on_slurm_are_put_together(tmp_path: Path, slurm: dict[str, str]) -> None:
    text = JOB.format(root=tmp_path / "root", address="") + "  shards: 2\n"
    text = text.replace("n: 32", "n: 4")
    (tmp_path / "job.yaml").write_text(text)
    gristmill(tmp_path, "submit", "job.yaml", "--to", "slurm", **slurm)
    until = time.monotonic() + 300
    while True:
        found = json.loads(gristmill(tmp_path, "status", "latest", "--root", "root", "--json", **slurm))
        if found["state"] == "done" and not found["cluster"].count("running"):
            break
        logs = gristmill(tmp_path, "logs", "latest", "--root", "root", **slurm)
        assert time.monotonic() < until and "failed" not in found["cluster"], logs
        time.sleep(1)
    [samples] = (tmp_path / "root").glob("samples/*")
    assert len(pl.read_delta(str(samples))) == 20
    newest = found["runs"][0]
    assert newest["n_problems"] == 5
    assert {stage["name"]: stage["computed"] for stage in newest["stages"]}["sample"] == 0
    assert sorted(run["n_problems"] for run in found["runs"][1:]) in ([1, 4], [2, 3])
