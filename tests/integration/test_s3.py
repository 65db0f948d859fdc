"""An S3-compatible server as the root: the same runs, nothing cached, nothing secret written down."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.annotations import annotate, annotations_of
from cluster.records.reader import find_run, open_stage
from cluster.runners.local import LocalRunner
from cluster.spending.history import read_ledger
from cluster.storage.root import SINGLE_WRITER, Root
from cluster.storage.s3 import s3_config
from schemas.errors import BadInput, StoreBusy
from schemas.redaction import redact
from tests.commands import gristmill
from tests.orders import Going, computed
from tests.s3 import KEYS, S3Server
from tests.support import QUICK, keys, run, scripted_pipeline, stage, write_problems

pytestmark = pytest.mark.s3
HERE = Path(__file__).parents[2]


def test_a_run_tops_up_and_reads_back(s3: S3Server, tmp_path: Path) -> None:
    source, root = write_problems(tmp_path / "p.jsonl", 4), s3.root("top-up")
    first = run_pipeline(scripted_pipeline(source, 10), LocalRunner(), root, QUICK)
    second = run_pipeline(scripted_pipeline(source, 25), LocalRunner(), root, QUICK)
    assert first.manifest.state == second.manifest.state == "done"
    assert stage(second, "sample") == {"planned": 100, "reused": 40, "computed": 60}
    assert len(keys(second)) == len(set(keys(second))) == 100
    assert len(keys(first)) == 40
    local = run(LocalRunner(), scripted_pipeline(source, 25), tmp_path / "local")
    for name in ("verify", "select", "count"):
        one, other = (r.dataset(name).collect() for r in (second, local))
        drop, order = [c for c in ("seconds",) if c in one.columns], one.columns[:2]
        assert one.drop(drop).sort(order).equals(other.drop(drop).sort(order))


@pytest.mark.ray
def test_ray_workers_reach_the_server(s3: S3Server, tmp_path: Path) -> None:
    from cluster.ray.runner import RayRunner

    runner = RayRunner()
    try:
        result = run_pipeline(
            scripted_pipeline(write_problems(tmp_path / "p.jsonl", 2), 10), runner, s3.root("ray"), QUICK
        )
    finally:
        runner.close()
    assert result.manifest.state == "done"
    assert len(keys(result)) == 20


def test_credentials_come_from_a_profile_too(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    profile = tmp_path / "credentials"
    lines = [f"aws_access_key_id = {KEYS['AWS_ACCESS_KEY_ID']}"]
    lines += [f"aws_secret_access_key = {KEYS['AWS_SECRET_ACCESS_KEY']}"]
    profile.write_text("\n".join(["[cluster]", *lines, f"endpoint_url = {s3.environment['AWS_ENDPOINT_URL']}"]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "cluster")
    result = run_pipeline(
        scripted_pipeline(write_problems(tmp_path / "p.jsonl", 1), 4), LocalRunner(), s3.root("profile"), QUICK
    )
    assert result.manifest.state == "done"
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in redact(f"signed with {KEYS['AWS_SECRET_ACCESS_KEY']}")
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in repr(s3_config())


def test_no_key_is_written_anywhere(s3: S3Server, tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 2)
    root = s3.root("secrets")
    command = ["run", "math", "--runner", "local", "--root", root]
    for setting in ("load.source=problems.jsonl", "sample.n=4", "engine.kind=scripted", "verify.operator=verify.exact"):
        command += ["--set", setting]
    done = gristmill(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fs = Root.at(root).fs
    files = fs.find(root)
    assert len(files) > 10
    written = [fs.cat_file(file) for file in files if not file.endswith(".parquet")]
    for secret in KEYS.values():
        assert secret not in done.stdout + done.stderr
        assert not any(secret.encode() in text for text in written)
    done = gristmill(*command, cwd=tmp_path, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert done.returncode == 3
    assert "the storage didn't answer" in done.stderr
    assert not any(secret in done.stderr for secret in KEYS.values())


def test_a_root_with_credentials_in_it_is_refused() -> None:
    with pytest.raises(BadInput, match="carries credentials") as refused:
        Root.at("s3://key-id:very-secret@bucket/place")
    assert "very-secret" not in str(refused.value)


def test_anothers_work_is_seen_at_once(s3: S3Server) -> None:
    one, other = Root.at(s3.root("listing")), Root.at(s3.root("listing"))
    assert one.list("runs") == []
    for number in range(3):
        other.write_bytes(b"{}", "runs", f"run{number}", "manifest.json")
        assert one.list("runs") == [f"run{i}" for i in range(number + 1)]
        assert one.exists("runs", f"run{number}", "manifest.json")
    other.remove("runs", "run0", "manifest.json")
    assert not one.exists("runs", "run0", "manifest.json")


def test_one_writer_of_a_store(s3: S3Server, tmp_path: Path) -> None:
    from cluster.planning.plan import make_plan

    source, root = write_problems(tmp_path / "p.jsonl", 2), s3.root("one-writer")
    store = make_plan(scripted_pipeline(source, 5), Root.at(root)).stages["sample"].store
    assert store is not None
    store.acquire("first")
    with pytest.raises(StoreBusy, match="run first"):
        run_pipeline(scripted_pipeline(source, 5), LocalRunner(), root, QUICK)
    store.release()
    assert run_pipeline(scripted_pipeline(source, 5), LocalRunner(), root, QUICK).manifest.state == "done"


def test_a_server_without_conditional_writes_needs_a_single_writer(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root.at(s3.root("unconditional"))
    root.check_writable()
    write = root.fs.pipe_file

    def unconditional(path: str, data: bytes, mode: str = "overwrite") -> None:
        write(path, data)  # as a server does that ignores If-None-Match

    monkeypatch.setattr(root.fs, "pipe_file", unconditional)
    with pytest.raises(BadInput, match=f"no conditional writes.*{SINGLE_WRITER}=1"):
        root.check_writable()
    monkeypatch.setenv(SINGLE_WRITER, "1")
    root.check_writable()
    assert (root.storage_options() or {})["aws_s3_allow_unsafe_rename"] == "true"


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_is_waited_for(s3: S3Server, tmp_path: Path) -> None:
    source, root = write_problems(tmp_path / "p.jsonl", 4), s3.root("outage")
    log = tmp_path / "calls"
    pipeline = scripted_pipeline(source, 100, latency=0.05, slots=4, call_log=str(log))
    done: list[str] = []
    thread = threading.Thread(
        target=lambda: done.append(run_pipeline(pipeline, LocalRunner(), root, QUICK).manifest.state), daemon=True
    )
    thread.start()
    until = time.monotonic() + 300
    while not log.exists() or len(log.read_text().split()) < 100:
        assert time.monotonic() < until
        time.sleep(0.1)
    s3.stop()
    time.sleep(5)
    s3.start()
    thread.join(timeout=600)
    assert done == ["done"]
    assert len(set(log.read_text().split())) == len(log.read_text().split()) == 400
    rows = pl.concat([run_rows(root, name) for name in ("sample", "verify")])
    assert rows.group_by("stage").len().sort("stage").rows() == [("sample", 400), ("verify", 400)]


def run_rows(root: str, name: str) -> pl.DataFrame:
    from cluster.records.reader import open_stage

    place = Root.at(root)
    rows = open_stage(place, find_run(place, "latest"), name).select("problem_key", "sample_index").collect()
    return rows.unique().with_columns(stage=pl.lit(name))


def test_orders_and_annotations_go_through_the_bucket(s3: S3Server, tmp_path: Path) -> None:
    source, root = write_problems(tmp_path / "p.jsonl", 2), Root.at(s3.root("orders"))
    pipeline = scripted_pipeline(source, 100_000, latency=0.05, slots=2)
    with Going(LocalRunner(), pipeline, root.url, QUICK) as going:
        going.when(lambda manifest: computed(manifest, "verify"))
        began = time.monotonic()
        orders = [threading.Thread(target=going.told, args=["set", {"concurrency": most}]) for most in (1, 2)]
        for thread in orders:
            thread.start()
        for thread in orders:
            thread.join(timeout=60)
        assert going.told("pause").result == "applied"
        assert time.monotonic() - began < 60
        assert find_run(root, going.run_id).paused is not None
        verdict = open_stage(root, find_run(root, going.run_id), "verify").head(1).collect().row(0, named=True)
        said = {name: verdict[name] for name in ("problem_key", "sample_index")}
        annotate(root, find_run(root, going.run_id), [{**said, "author": "anna", "is_correct": True}])
        assert len(annotations_of(root, find_run(root, going.run_id))) == 1
        going.told("cancel")
        manifest = going.end()
    assert [one.result for one in manifest.orders] == ["applied"] * 4
    assert read_ledger(root).filter(pl.col("kind") == "order")["author"].to_list() == ["anna"] * 4
