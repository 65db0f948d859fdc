"""The view over HTTP: of a root on an object store, beside the run that it shows, and what looking on costs."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.driving.driver import run_pipeline
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.view.bundle.site import write_bundle
from jobs.view.shown import Shown
from schemas.manifest import RunManifest
from tests.commands import Command
from tests.integration.test_view_in_browser import serving
from tests.s3 import S3Server
from tests.support import QUICK, scripted_pipeline, write_problems

SECONDS = 60.0


class Asked:
    """A client that came by the address with the token."""

    def __init__(self, address: str) -> None:
        self.base = address.split("?")[0]
        self.client = httpx.Client(timeout=SECONDS, trust_env=False)
        self.client.get(address).raise_for_status()

    def get(self, path: str, **query: str) -> Any:
        """Return a document; an index that is being made is waited for."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            answer = self.client.get(f"{self.base}api/{path}", params=query)
            if answer.status_code != 202:
                assert answer.status_code == 200, answer.text
                return answer.json()
            time.sleep(0.05)
        raise AssertionError(f"never answered: {path}")

    @contextmanager
    def hear(self, path: str, **query: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Hear a stream of documents."""
        with self.client.stream("GET", f"{self.base}api/{path}", params=query) as answer:
            assert answer.status_code == 200
            yield self._until(answer.iter_lines())

    def _until(self, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + SECONDS
        for line in lines:
            assert time.monotonic() < until, "what was waited for never came"
            if line.startswith("data: "):
                yield json.loads(line[6:])


class Onlooker:
    """Holds the run, once some of it is committed, until the view's stream tells of that."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.seen: list[tuple[str, int]] = []

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        record = next((one for one in manifest.stages if one.name == "sample"), None)
        if record is None or not 0 < record.computed < record.planned or self.seen:
            return
        with self.asked.hear(f"run/{manifest.run_id}/live") as news:
            for document in news:
                drawn = document["totals"].get("drawn", 0)
                if drawn:
                    self.seen.append((document["state"], drawn))
                    return

    def say(self, text: str) -> None: ...


@pytest.mark.s3
def test_a_run_on_an_object_store_is_watched_and_read(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = Root.at(s3.root("viewed"))
    source = write_problems(tmp_path / "p.jsonl", 4)
    shown = Shown(root)
    with serving(shown) as server:
        asked = Asked(server.address)
        assert asked.get("runs")["total"] == 0
        onlooker = Onlooker(asked)
        settings = QUICK.model_copy(update={"flush_seconds": 0.1})
        pipeline = scripted_pipeline(source, 12, latency=0.3, slots=4)  # as long as some commits take
        result = run_pipeline(pipeline, LocalRunner(), root.url, settings, onlooker)
        [(state, drawn)] = onlooker.seen
        assert state == "running" and 0 < drawn <= 48
        run = result.manifest.run_id
        with asked.hear(f"run/{run}/live") as news:
            last = next(document for document in news if document["state"] == "done")
        assert last["totals"]["drawn"] == 48
        assert [line["run_id"] for line in asked.get("runs")["runs"]] == [run]
        right = result.dataset("verify").collect()["is_correct"].sum()
        assert asked.get(f"run/{run}/count", verdict="right") == {"count": right}
        lines = asked.get(f"run/{run}/samples", verdict="right", limit="100")["samples"]
        assert len(lines) == right
        texts = asked.get(f"run/{run}/samples", verdict="right", limit="100", texts="1")["texts"]
        assert {one["text"] for one in texts.values()} <= {"0", "1", "2"} and len(texts) == right
        whole = asked.get(f"run/{run}/sample/{lines[0]['slot']}")
        assert whole["sample"]["completion"] == texts[str(lines[0]["slot"])]["text"]
        assert f"--root {root.url}" in whole["command"]
        assert sum(row["right"] for row in asked.get(f"run/{run}/problems")["problems"]) == right
        with asked.hear(f"run/{run}/search", text="2") as found:
            hits = [hit for step in found for hit in step["hits"]]
        assert len(hits) == (result.dataset("sample").collect()["completion"] == "2").sum()
        assert {uri for uri in root.list() if "catalogue" not in uri} <= {"runs", "samples", "verdicts", "snapshots"}
    write_bundle(root, [run], tmp_path / "site", lambda _: None)
    layout = json.loads((tmp_path / "site" / "data" / "run-0" / "layout.json").read_text())
    assert sum(shard["rows"] for shard in layout["tables"]["texts"]) == 48


def test_run_with_view_serves_the_run_until_it_ends(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    engine = "engine={kind: scripted, answers: ['1'], latency: 0.3, slots: 2}"
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = Command(
        "run", "math", "--view", "--runner", "local", "--root", str(tmp_path / "root"), "--set", "sample.n=500",
        "--set", f"load.source={source}", "--set", engine, folder=tmp_path, changes=cache,
    )  # fmt: skip
    until = time.monotonic() + SECONDS
    while "view: " not in command.errors() and time.monotonic() < until and command.poll() is None:
        time.sleep(0.02)
    asked = Asked(command.errors().split("view: ")[1].split()[0])
    while not (lines := asked.get("runs")["runs"]) and time.monotonic() < until:
        time.sleep(0.05)
    [line] = lines
    assert line["state"] == "running"
    with asked.hear(f"run/{line['run_id']}/live") as news:
        document = next(document for document in news if document["totals"].get("drawn"))
    assert document["state"] == "running"
    [stage] = [stage for stage in document["stages"] if stage["name"] == "sample"]
    assert stage["planned"] == 2000 and 0 < stage["there"] < 2000
    command.send_signal(signal.SIGINT)
    assert command.wait() != 0, "it was ended before it was done"
    with pytest.raises(httpx.ConnectError):
        asked.client.get(asked.base)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=lambda told: told.name)
def test_a_view_that_is_told_to_end_says_nothing_of_the_pages_that_are_open(tmp_path: Path, told: int) -> None:
    source = write_problems(tmp_path / "p.jsonl", 1)
    run = run_pipeline(scripted_pipeline(source, 2), LocalRunner(), str(tmp_path / "root"), QUICK).manifest.run_id
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = Command("view", "--root", str(tmp_path / "root"), "--no-browser", folder=tmp_path, changes=cache)
    until = time.monotonic() + SECONDS
    while "view: " not in command.output() and time.monotonic() < until and command.poll() is None:
        time.sleep(0.02)
    asked = Asked(command.output().split("view: ")[1].split()[0])
    with asked.hear(f"run/{run}/live") as news:
        next(news)
        command.send_signal(told)
        assert list(news) == [], "the stream ends by itself"
    command.wait()
    assert "Cancel" not in command.errors() and "Traceback" not in command.errors(), command.errors()


def test_a_folder_of_tables_is_served_without_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "tables"
    (folder / "more").mkdir(parents=True)
    tokens = [["a", "b "], ["c"], ["d", "e", "f"]]
    logprobs = [[-0.1, -2.0], [-0.5], [-1.0, -4.0, -0.25]]
    for at, place in enumerate((folder / "one.parquet", folder / "more" / "two.parquet")):
        texts = [f"text {at}.{row}" for row in range(3)]
        columns = {"response": texts, "is_correct": [True, False, None], "tokens": tokens, "token_logprobs": logprobs}
        pl.DataFrame(columns).write_parquet(place)
    with serving(Shown(None, folder)) as server:
        asked = Asked(server.address)
        assert asked.get("about")["kind"] == "table"
        assert asked.get("run/table/count") == {"count": 6}
        assert [one["slot"] for one in asked.get("run/table/samples", verdict="wrong")["samples"]] == [1, 4]
        texts = asked.get("run/table/samples", texts="1")["texts"]
        assert texts["0"]["text"] == "text 1.0" and texts["5"]["text"] == "text 0.2"
        assert asked.get("run/table/sample/2")["tokens_of"] == [["d", -1.0], ["e", -4.0], ["f", -0.25]]
        with asked.hear("run/table/search", text="0.") as found:
            assert sorted(hit["slot"] for step in found for hit in step["hits"]) == [3, 4, 5]
