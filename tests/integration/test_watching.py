"""Watching a run: its structured log, why it stands still, its figures in Prometheus' format through Ray."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

from cluster.driving.driver import run_pipeline
from cluster.driving.health import Health
from cluster.records.events import read_events
from cluster.records.reader import find_run
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline
from schemas.job import RunSettings
from schemas.manifest import RunManifest
from tests.commands import gristmill
from tests.completion_server import CompletionServer
from tests.support import QUICK, run, scripted_pipeline, write_problems


def test_every_line_says_run_stage_and_part(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    result = run(LocalRunner(), scripted_pipeline(source, 8, latency=0.01), tmp_path / "root", QUICK)
    events = list(read_events(result.root, result.manifest.run_id))
    assert {event["run"] for event in events} == {result.manifest.run_id}
    assert events[0]["event"] == "begin"
    assert (events[-1]["event"], events[-1]["state"]) == ("end", "done")
    commits = [event for event in events if event["event"] == "commit"]
    rows = {stage: sum(event["rows"] for event in commits if event["stage"] == stage) for stage in ("sample", "verify")}
    assert rows == {"sample": 24, "verify": 24}
    assert all(event["part"].endswith(".parquet") for event in commits)
    done = [event["stage"] for event in events if event["event"] == "stage done"]
    assert sorted(done) == sorted(result.manifest.model_dump()["stages"][at]["name"] for at in range(len(done)))
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_events_go_to_standard_error_where_that_is_wanted(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    done = gristmill(
        "run", "math", "--runner", "local", "--root", str(tmp_path / "root"), "--set", f"load.source={source}",
        "--set", "sample.n=2", "--set", "engine={kind: scripted, answers: ['1']}",
        cwd=tmp_path, env={"GRISTMILL_LOG": "json", "MY_SECRET": "p.jsonl"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert events[0]["event"] == "begin" and events[-1]["event"] == "end"
    assert "p.jsonl" not in done.stderr


def test_a_stall_is_noticed_after_its_time_and_not_before() -> None:
    now = [0.0]
    health = Health(300.0, lambda: now[0])
    assert health.stalled(("a", 1)) is None
    now[0] = 299.0
    assert health.stalled(("a", 1)) is None
    now[0] = 301.0
    assert health.stalled(("a", 1)) == 301.0
    assert health.stalled(("a", 2)) is None
    now[0] = 400.0
    assert health.stalled(("a", 2)) is None
    assert health.stalled(("a", 3)) is None
    now[0] = 409.0
    assert health.stalled(("a", 3), known=True) is None
    now[0] = 410.0
    assert health.stalled(("a", 3), known=True) == 10.0  # what is known is told sooner
    assert health.stalled(("a", 3)) is None


def test_a_run_says_that_its_server_is_down(tmp_path: Path) -> None:
    """While it waits, the manifest has the reason; once the server answers, it goes on and the reason is gone."""
    source, server = write_problems(tmp_path / "p.jsonl", 2), CompletionServer(up=False)
    engine = {"kind": "openai", "url": server.url, "model": "m", "revision": "1"}
    settings = {
        "engine": engine,
        "load": {"source": str(source)},
        "sample": {"n": 3},
        "verify": {"operator": "verify.exact", "extract": ["whole"]},
    }
    pipeline, _ = build_pipeline("math", settings)
    said: list[str] = []
    written: list[str | None] = []

    class Watch:
        def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
            if manifest.waits_for and not server.up:
                written.append(find_run(Root.at(tmp_path / "root"), "latest").waits_for)
                server.up = True

        def say(self, text: str) -> None:
            said.append(text)

    runner = LocalRunner()
    quick = RunSettings(stall_seconds=1.5, flush_seconds=0.2, commit_seconds=0.05)
    result = run_pipeline(pipeline, runner, str(tmp_path / "root"), quick, Watch())
    runner.close()
    server.close()
    reason = f"stage sample, replica 0: {server.url} is loading the model (answers 503: Loading model)"
    assert len(written) == 1 and (written[0] or "").startswith(reason)
    assert any(text.startswith("nothing has happened for") and reason in text for text in said)
    events = {event["event"]: event for event in read_events(result.root, result.manifest.run_id)}
    assert events["waiting"]["message"].startswith(reason) and "going on" in events
    assert "it goes on" in said
    assert (result.manifest.state, result.manifest.waits_for) == ("done", None)


@pytest.mark.ray
def test_a_run_says_that_no_gpu_is_free_and_shows_its_figures(tmp_path: Path) -> None:
    """A node of one GPU that another holds; and what Prometheus would read of the run that gets it in the end."""
    import ray
    from ray.cluster_utils import Cluster

    from cluster.ray.runner import RayRunner

    source = write_problems(tmp_path / "p.jsonl", 4)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1})
    said: list[str] = []
    figures: list[str] = []
    held: list[object] = []
    try:
        ray.init(address=cluster.address, namespace="gristmill", logging_level="ERROR")

        @ray.remote(num_gpus=1, num_cpus=0)
        class Holder:
            def ready(self) -> bool:
                return True

        other = Holder.remote()
        ray.get(other.ready.remote())
        held.append(other)
        [port] = {node["MetricsExportPort"] for node in ray.nodes()}

        class Watch:
            def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
                if manifest.waits_for and held:
                    ray.kill(held.pop())
                if any(record.computed for record in manifest.stages if record.name == "sample"):
                    figures[:] = [scrape(port)]

            def say(self, text: str) -> None:
                said.append(text)

        runner = RayRunner(cluster.address)
        quick = RunSettings(stall_seconds=2.0, flush_seconds=0.2, commit_seconds=0.05)
        pipeline = scripted_pipeline(source, 40, gpus=1.0, latency=0.4, slots=8)
        result = run_pipeline(pipeline, runner, str(tmp_path / "root"), quick, Watch())
        assert result.manifest.state == "done"
        runner.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
    waiting = next(text for text in said if text.startswith("nothing has happened"))
    assert "room in the cluster: it needs 1 GPU(s)" in waiting
    assert "free now: 0 GPU(s)" in waiting
    [text] = figures
    run_id = result.manifest.run_id
    for name in ("gristmill_rows", "gristmill_queue_depth", "gristmill_tokens", "gristmill_engine_busy_share"):
        assert re.search(rf'^ray_{name}{{[^}}]*run="{run_id}"', text, flags=re.MULTILINE), text[:3000]


def scrape(port: int) -> str:
    """Return what Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=300) as answer:
        return str(answer.read().decode())
