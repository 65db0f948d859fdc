"""Servers that all tests share: S3 and Slurm. Each starts with the first test that wants it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.s3 import S3Server
from tests.slurm import slurm as running_slurm


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3") / "weed") as running:
        yield running


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment that leads to it and to no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm of one node: the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)  # munge's daemon has a user of its own
    with running_slurm(folder) as environment:
        yield environment
