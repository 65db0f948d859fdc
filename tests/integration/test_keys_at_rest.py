"""Keys in an engine's settings are in no file that a run leaves; what a model says is kept, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.runners.local import LocalRunner
from cluster.storage.delta import stored_identities
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline
from jobs.running.run import write_report
from tests.commands import gristmill
from tests.completion_server import CompletionServer
from tests.support import QUICK, run, write_problems

KEYS = {"body": "canary-body-12345", "nested": "canary-nested-12345", "env": "canary-env-123456", "short": "cana"}
ANSWER = "my key is canary-env-123456"


def settings(source: Path, url: str, **more: Any) -> dict[str, Any]:
    extra = {
        "api_key": KEYS["body"],
        "more": [{"authorization": f"Bearer {KEYS['nested']}"}],
        "password": KEYS["short"],
    }
    engine = {"kind": "openai", "url": url, "model": "m", "revision": "1", "key_env": "THE_KEY", "extra_body": extra}
    return {"engine": engine, "load": {"source": str(source)}, "sample": {"n": 2, **more}}


def test_no_file_of_a_run_holds_a_key_and_what_models_say_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEYS["env"])
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")
    source, server, root = write_problems(tmp_path / "p.jsonl", 2), CompletionServer(ANSWER), tmp_path / "root"
    try:
        pipeline, _ = build_pipeline("math", settings(source, server.url, max_tokens=64))
        result = run(LocalRunner(), pipeline, root, QUICK)
        write_report(result.root, result.manifest)
    finally:
        server.close()
    assert result.manifest.state == "done"
    texts = [
        path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".html")
    ]
    assert len(texts) > 10
    report = (root / "runs" / result.manifest.run_id / "report.html").read_text()
    assert ANSWER in report, "what a model says is data"
    for name in ("body", "nested"):
        assert not any(KEYS[name].encode() in text for text in texts), name
    assert not any(b'"cana"' in text or b'\\"cana\\"' in text for text in texts)
    assert not any(KEYS["env"].encode() in text for text in texts if ANSWER.encode() not in text)
    assert set(result.dataset("sample").collect()["completion"]) == {ANSWER}
    [identity] = stored_identities(Root.at(str(root)), "samples").values()
    assert identity["engine"]["extra_body"]["api_key"] == "***"


def test_what_is_new_is_told_without_a_key_and_samples_are_found_again(tmp_path: Path) -> None:
    source, server, root = write_problems(tmp_path / "p.jsonl", 2), CompletionServer("1"), tmp_path / "root"
    try:
        for _ in range(2):
            pipeline, _ = build_pipeline("math", settings(source, server.url))
            result = run(LocalRunner(), pipeline, root, QUICK)
        record = next(record for record in result.manifest.stages if record.name == "sample")
        assert (record.reused, record.computed) == (4, 0)
        job = {"pipeline": "math", "settings": settings(source, server.url, temperature=0.5)}
        (tmp_path / "job.yaml").write_text(json.dumps(job))
        planned = gristmill("plan", str(tmp_path / "job.yaml"), "--root", str(root), "--json", cwd=tmp_path)
    finally:
        server.close()
    assert "sample.temperature 1.0 -> 0.5: new samples" in planned.stdout, planned
    assert "canary" not in planned.stdout + planned.stderr
