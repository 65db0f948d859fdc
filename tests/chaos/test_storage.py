"""Storage that goes away, loses requests and answers, or is slow."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from cluster.driving.driver import run_pipeline
from cluster.runners.local import LocalRunner
from cluster.working.outgoing import BUFFERS
from tests.chaos.conftest import Figures
from tests.chaos.proxy import Proxy, seeded_faults
from tests.chaos.support import FULL, SEED, Job, check_same, ends_within, memory, wait_for
from tests.s3 import S3Server
from tests.support import QUICK, keys, scripted_pipeline, write_problems

pytestmark = [pytest.mark.chaos, pytest.mark.s3]


@pytest.fixture(scope="module")
def any_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of these tests alone: one of them stops it."""
    with S3Server(tmp_path_factory.mktemp("s3") / "weed") as running:
        yield running


@pytest.fixture
def server(any_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment that leads to it and to no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in any_server.environment.items():
        monkeypatch.setenv(name, value)
    return any_server


def test_server_is_away(server: S3Server, tmp_path: Path, figures: Figures) -> None:
    """For a while in the middle of a run; then the run goes on by itself, and nothing was lost or is done again."""
    away = 20.0 if FULL else 5.0
    job = Job(tmp_path / "job", root=server.root("away"), latency=0.1)
    process = job.start()
    wait_for(lambda: len(job.calls()) > 150, process)
    server.stop()
    assert not ends_within(process, away)
    waited = len(job.calls())
    server.start()
    assert job.finish(process) == 0, job.log()
    check_same(job)
    assert job.repeated() == 0
    figures |= {"away": f"{away:.0f} s", "calls when it came back": waited, "calls repeated": job.repeated()}


@pytest.mark.parametrize(
    ("share", "only"),
    [pytest.param(0.01, "", id="1% of all requests"), pytest.param(0.2, "/_delta_log/", id="20% of the commits")],
)
def test_requests_and_answers_are_lost(
    server: S3Server, tmp_path: Path, figures: Figures, share: float, only: str
) -> None:
    """Lost answers are the hard case: a commit that went through must not be made again, nor be taken for lost."""
    requests = repeated = 0
    faults: Counter[str] = Counter()
    for number in range(5 if FULL else 1):
        with Proxy(server.port, seeded_faults(f"requests {SEED} {number}", share, only)) as proxy:
            job = Job(tmp_path / str(number), root=server.root(f"lossy{number}"), sample={"seed": number})
            job.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
            process = job.start()
            while not ends_within(process, 0.5):
                job.look()
            assert process.returncode == 0, job.log()
        check_same(job)
        requests, repeated = requests + proxy.requests, repeated + job.repeated()
        faults += proxy.faults
    assert repeated == 0
    assert faults
    figures |= {"requests": requests, "faults": dict(faults), "calls repeated": repeated}


def test_any_request_may_fail(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    """The libraries try again by themselves, which hides what isn't waited for; here they don't.

    In this process, since that can't be asked of them from outside.
    """
    _without_retries(monkeypatch)
    source = write_problems(tmp_path / "p.jsonl", 4)
    faults: Counter[str] = Counter()
    for number in range(20 if FULL else 1):
        with Proxy(server.port, seeded_faults(f"any request {SEED} {number}", 0.1)) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
            result = run_pipeline(scripted_pipeline(source, 10), LocalRunner(), server.root(f"any{number}"), QUICK)
            assert result.manifest.state == "done"
            proxy.fault = lambda method, path: None  # the test's own reading isn't waited for
            assert len(keys(result)) == len(set(keys(result))) == 40
        faults += proxy.faults
    assert faults
    figures |= {"faults": dict(faults)}


def _without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have delta-rs and Polars ask once; the one takes text, the other a number."""
    make, create, scan = DeltaTable.__init__, DeltaTable.create, pl.scan_parquet

    def options(given: dict[str, str] | None, retries: Any) -> dict[str, Any]:
        return {**(given or {}), "max_retries": retries}

    def made(*given: Any, storage_options: dict[str, str] | None = None, **more: Any) -> None:
        make(*given, storage_options=options(storage_options, "0"), **more)

    def created(*given: Any, storage_options: dict[str, str] | None = None, **more: Any) -> DeltaTable:
        return create(*given, storage_options=options(storage_options, "0"), **more)

    def scanned(*given: Any, storage_options: dict[str, str] | None = None, **more: Any) -> pl.LazyFrame:
        return scan(*given, storage_options=options(storage_options, 0) if storage_options else None, **more)

    monkeypatch.setattr(DeltaTable, "__init__", made)
    monkeypatch.setattr(DeltaTable, "create", created)
    monkeypatch.setattr(pl, "scan_parquet", scanned)


def test_storage_is_slow(server: S3Server, tmp_path: Path, figures: Figures) -> None:
    """Sampling waits for it, and memory doesn't fill with what was drawn: no more of it than where storage is fast."""
    flush_rows, slots, n = 150, 32, 500
    answers = (f"\\boxed{{1}} {'x' * 30_000} {{seed}}",)
    peaks: dict[str, float] = {}
    for name, seconds in (("fast", 0.0), ("slow", 2.0 if FULL else 1.0)):
        with Proxy(server.port, delay=lambda method, path, seconds=seconds: seconds * _is_table(method, path)) as proxy:
            job = Job(
                tmp_path / name,
                server.root(name),
                n=500,
                slots=slots,
                latency=0.002,
                answers=answers,
            )
            job.run |= {"flush_rows": flush_rows, "flush_seconds": 60.0}
            job.write()
            job.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
            process = job.start()
            most, began, drew = 0, 0.0, 0.0
            while not ends_within(process, 0.02):
                calls = len(job.calls())  # looked up before what was written: never too few because of the order
                written = sum(count for folder, count in proxy.written.items() if "/samples/" in folder)
                most = max(most, calls - flush_rows * written)
                peaks[name] = max(peaks.get(name, 0.0), memory(process.pid))
                now = time.monotonic()
                began, drew = began or (now if calls else 0.0), now if calls < 4 * n else drew
            assert process.returncode == 0, job.log()
        assert job.repeated() == 0
        assert most <= BUFFERS * flush_rows + slots
        figures[name] = f"{4 * n / (drew - began):.0f} samples/s, {most} unwritten at most, {peaks[name]:.0f} MiB"
    check_same(job)
    assert peaks["slow"] < peaks["fast"] + 100.0


def _is_table(method: str, path: str) -> bool:
    return method == "PUT" and ("/samples/" in path or "/verdicts/" in path)
