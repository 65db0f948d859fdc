"""A real Slurm of one node, as this machine's own: munged, slurmctld and slurmd in a scratch folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

CONF = Path(__file__).parents[1] / "infra" / "slurm" / "one-node.conf"
CPUS, MEMORY = 8, 32_000
"""What the node claims to have (MB): room for the jobs of several tests at once."""


def missing() -> list[str]:
    """Return Slurm's programs that aren't installed."""
    return [name for name in TOOLS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run Slurm meanwhile; gives the environment in which its commands find it."""
    if absent := missing():
        raise RuntimeError(f"{', '.join(absent)} not found: Slurm is installed by infra/debian.sh")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.read_text().format(folder=folder, host=host, ports=_free_ports(2), cpus=CPUS, memory=MEMORY)
        + "SlurmdParameters=config_overrides\n"  # what the node has is what it says, and not what it is
    )
    environment = {"SLURM_CONF": str(conf)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_munged(folder / "munge"))
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]):
            started.append(_start(command, {**os.environ, **environment}, folder / f"{command[0]}.out"))
        _wait_for_node(environment, host)
        yield environment
        _end_jobs(environment)
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def _munged(folder: Path) -> subprocess.Popen[bytes]:
    """Start munge's daemon with a key of its own; it wants to own its folder."""
    user = pwd.getpwnam("munge")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    for path in (folder, key):
        os.chown(path, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    command = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log",
    ]  # fmt: skip
    process = _start(command, dict(os.environ), folder.parent / "munged.out")
    _until(lambda: (folder / "munge.socket").exists(), "munged")
    return process


def _end_jobs(environment: dict[str, str]) -> None:
    """End what still runs: nobody else would."""
    every = {**os.environ, **environment}
    queue = subprocess.run(["squeue", "--noheader", "--format=%A"], env=every, capture_output=True, text=True)
    for number in {*queue.stdout.split()}:
        subprocess.run(["scancel", "--full", number], env=every, check=False)
    command = ["squeue", "--noheader"]
    _until(lambda: not subprocess.run(command, env=every, capture_output=True).stdout.strip(), "the queue's end")


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


def _wait_for_node(environment: dict[str, str], host: str) -> None:
    def idle() -> bool:
        command = ["sinfo", "--noheader", "--format=%t"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        return "idle" in done.stdout or "mix" in done.stdout

    _until(idle, f"node {host}")


def _until(condition: object, what: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # pyright: ignore
        if time.monotonic() > until:
            raise RuntimeError(f"{what} isn't there after {seconds:.0f} s")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
