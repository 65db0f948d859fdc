"""A bundle in a real browser: what it answers is what the server answers, with ranges and without; nothing runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pytest
import uvicorn
from starlette.staticfiles import StaticFiles

from cluster.driving.driver import run_pipeline
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.view import app
from jobs.view.bundle import shards, site
from jobs.view.serve import Server, listen
from jobs.view.shown import Shown
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.synthesize.preference import SynthesizePreference
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline
from pipelines.sft import Config, build
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from tests.browser import Browser, Page
from tests.commands import gristmill
from tests.integration.test_view_in_browser import EVIL, MARKUP, serving
from tests.strategies import Rounds
from tests.support import QUICK, run, scripted_pipeline, write_problems

pytestmark = pytest.mark.browser

N = 24
PROBLEMS = 8
TEXTS = tuple(
    text.replace("{", "{{").replace("}", "}}")
    for text in (*(f"I add. The answer is \\boxed{{{at}}}." for at in range(3)), f"evil {EVIL}", "no answer at all")
)


def searched(source: Path) -> Pipeline:
    pipeline = Pipeline("searched")
    problems = pipeline.stage("load", Load(source=str(source)))
    engine = ScriptedSpec(answers=TEXTS[:3])
    sampling = Sampling(n=8, max_tokens=16, strategy=Rounds())
    asked = {"engine": engine, "engines": {"scorer": ScriptedSpec(model="scorer")}}
    samples = pipeline.stage("sample", sampling, **asked, problems=problems)
    pipeline.stage("verify", VerifyMath(), problems=problems, samples=samples)
    return pipeline


@dataclass(frozen=True)
class Bundled:
    """Two runs of a root, their bundle, and a view's server of the same root."""

    plain: RunResult
    episodes: RunResult
    folder: Path
    server: Server
    shown: Shown


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundled]:
    folder = tmp_path_factory.mktemp("bundle")
    rows = [
        {"id": f"p{at}{EVIL if at == 0 else ''}", "question": f"{at}? {EVIL}", "answer": str(at % 3)}
        for at in range(PROBLEMS)
    ]
    source = folder / "p.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = ScriptedSpec(answers=TEXTS, fail_permanent=0.1)
    pairs = SynthesizePreference(per_problem=3)
    config = Config(load=Load(source=str(source)), sample=Sampling(n=N), engine=engine, preference=pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(shards, "GROUP_ROWS", 20)  # many row groups and shards, though the run is small
        patch.setattr(shards, "LIMIT", 8_000)
        patch.setattr("jobs.view.bundle.rows.ROWS", 3 * N)
        plain = run(LocalRunner(), build(config), folder / "root")
        episodes = run(LocalRunner(), searched(source), folder / "root")
        runs = [plain.manifest.run_id, episodes.manifest.run_id]
        site.write_bundle(plain.root, runs, folder / "site", lambda _: None)
        shown = Shown(plain.root)
        with serving(shown) as server:
            yield Bundled(plain, episodes, folder / "site", server, shown)


@pytest.fixture(scope="module", params=["ranges", "whole files"])
def served(request: pytest.FixtureRequest, bundled: Bundled) -> Iterator[str]:
    """The bundle's address, on a server that has ranges, and on one that has none."""
    if request.param == "ranges":
        socket = listen("127.0.0.1", 0)
        files = StaticFiles(directory=bundled.folder, html=True)
        server = uvicorn.Server(uvicorn.Config(files, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, args=[[socket]], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
        server.should_exit = True
        thread.join(timeout=30)
        socket.close()
    else:
        command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(bundled.folder), "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        port = process.stdout.readline().split("port ")[1].split(" ")[0]
        yield f"http://127.0.0.1:{port}/"
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def page(served: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        page = browser.open(served)
        page.wait("document.querySelector('h1')?.innerText === 'Runs'")
        yield page


def told(page: Page, path: str, **query: str | int) -> Any:
    """Return what the bundle answers."""
    text = page.evaluate(f"gristmillBundle.ask({json.dumps(path)}, {json.dumps(query)}).then(JSON.stringify)")
    return json.loads(text)


def plainly(document: Any) -> Any:
    """Return a document as JSON would bring it, without what a bundle numbers or words in another way."""
    found = json.loads(app.dumps(document))

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(one) for name, one in value.items() if name not in ("slot", "command", "seconds")}
        if isinstance(value, list):
            return [clean(one) for one in value]
        return float(f"{value:.5g}") if isinstance(value, float | int) and not isinstance(value, bool) else value

    return clean(found)


FILTERS: list[dict[str, str | int]] = [
    {},
    {"verdict": "right"},
    {"verdict": "wrong,unparseable", "tokens": "4.."},
    {"verdict": "none"},
    {"status": "error"},
    {"kept": "pruned"},
    {"kept": "kept", "trained": "no"},
    {"trained": "yes"},
    {"trained": "no"},
    {"sort": "score"},
    {"answer": "2", "verdict": "right"},
    {"finish": "nothing like it"},
    {"sort": "tokens"},
    {"sort": "tokens", "order": "asc", "verdict": "wrong", "offset": 5},
]


def test_samples_are_those_that_the_server_gives(bundled: Bundled, page: Page) -> None:
    run_id = bundled.plain.manifest.run_id
    samples = bundled.shown.samples(run_id)
    while not samples.ready:
        samples = bundled.shown.samples(run_id)
    index, places = samples.open()
    key = places.keys[3]
    for asked in (*FILTERS, {"problem": key}, {"problem": key, "index": 5}, {"problem": "none such"}):
        wanted = app.read_filter({name: str(value) for name, value in asked.items()}, index, places)
        if "sort" in asked:
            offset = int(asked.get("offset", 0))
            slots = wanted.sorted_page(index, str(asked["sort"]), asked.get("order") != "asc", offset, 100)
        else:
            slots = wanted.page(index, -1, 100)
        query = {**asked, "limit": 100}
        found = told(page, f"run/{run_id}/samples", **query)["samples"]
        assert plainly(found) == plainly(samples.lines(slots)), asked
        texts = told(page, f"run/{run_id}/samples", **query, texts=1)["texts"]
        given = samples.texts(slots)
        assert [plainly(texts[str(line["slot"])]) for line in found if line["status"]] == [
            plainly({"said": None, **given[int(slot)]}) for slot in slots
        ]
        assert told(page, f"run/{run_id}/count", **asked) == {"count": wanted.count(index)}, asked
    walked: list[int] = []
    while more := told(page, f"run/{run_id}/samples", verdict="right", limit=7, after=walked[-1] if walked else ""):
        if not more["samples"]:
            break
        walked += [line["slot"] for line in more["samples"]]
    assert len(walked) == told(page, f"run/{run_id}/count", verdict="right")["count"] > 7
    assert told(page, f"run/{run_id}/names") == index.names


def test_a_sample_is_told_whole(bundled: Bundled, page: Page) -> None:
    for result, number in ((bundled.plain, 60), (bundled.episodes, 20)):
        run_id = result.manifest.run_id
        samples = bundled.shown.samples_of(run_id)
        while not samples.ready:
            samples = bundled.shown.samples_of(run_id)
        sides = 0
        for line in told(page, f"run/{run_id}/samples", limit=number)["samples"]:
            found = told(page, f"run/{run_id}/sample/{line['slot']}")
            slot = samples.open()[1].slot(line["problem_key"], line["sample_index"])
            assert slot is not None
            given = {name: one for name, one in samples.sample(slot).items() if one != []}
            assert plainly({name: one for name, one in found.items() if one != []}) == plainly(given)
            for pair in found.get("preferences", []):
                other = told(page, f"run/{run_id}/sample/{pair['slot']}")
                assert other["sample_index"] == pair["other"] and other["problem_key"] == line["problem_key"]
                sides += 1
            assert found["episode"] is None or found["episode"]["tree"]
        assert sides > 0 or result is bundled.episodes


def test_problems_are_those_that_the_server_gives(bundled: Bundled, page: Page) -> None:
    run_id = bundled.plain.manifest.run_id
    samples = bundled.shown.samples_of(run_id)
    for asked in ({}, {"rate": "0.2..0.5", "sort": "rate"}, {"text": "P3", "sort": "entropy", "order": "asc"}):
        given = samples.problems(asked)
        found = told(page, f"run/{run_id}/problems", **asked)
        names = given["problems"][0].keys()
        assert plainly([{name: row[name] for name in names} for row in found["problems"]]) == plainly(given["problems"])
        assert plainly(found["histograms"]) == plainly(given["histograms"])
    for row in samples.problems({})["problems"]:
        given, found = samples.problem(row["problem_key"]), told(page, f"run/{run_id}/problem", key=row["problem_key"])
        for name in ("problem_id", "prompt", "expected", "rate", "drawn", "indices", "verdicts", "tokens", "methods"):
            assert plainly(found[name]) == plainly(given[name]), name
        assert sorted(group["votes"] for group in found["groups"]) == sorted(one["votes"] for one in given["groups"])


def test_runs_and_pages_are_walked_by_keyboard(bundled: Bundled, page: Page, served: str) -> None:
    run_id = bundled.plain.manifest.run_id
    page.go(f"{served}#/runs?pipeline=sft")
    page.wait("document.querySelectorAll('td.name a').length === 1")
    page.key("Enter")
    page.wait(f"location.hash === '#/run/{run_id}' && document.querySelector('.state.done')")
    page.wait(f"document.querySelector('.tile .value').innerText === '{PROBLEMS * N}'")
    page.go(f"{served}#/run/{run_id}/samples")
    page.wait(f"document.querySelector('.counted').innerText === '{PROBLEMS * N} samples'")
    page.key("/")
    page.type("EVIL <script>")
    page.key("Enter")
    counted = "document.querySelector('.counted').innerText"
    shown = page.wait(f"/searched/.test({counted}) && !document.querySelector('.counted button') && {counted}")
    texts = bundled.plain.dataset("sample").select("completion").collect()["completion"]
    assert shown.startswith(f"{texts.str.contains('evil <script>', literal=True).sum()} found, {PROBLEMS * N} searched")
    page.key("j")
    page.wait("document.querySelector('.completion')?.innerText.includes('evil')")
    page.go(f"{served}#/compare?runs={bundled.episodes.manifest.run_id},{run_id}")
    page.wait("document.querySelector('.compared table')")


def searching(page: Page, served: str, run_id: str, text: str, regex: bool = True) -> str:
    """Search, and return what is said of it where it fails."""
    page.go(f"{served}#/run/{run_id}/samples?{urlencode({'q': text, 'regex': '1' if regex else ''})}")
    return page.wait("document.querySelector('.lines .note.bad')?.innerText")


def test_a_search_that_fails_says_why(bundled: Bundled, page: Page, served: str) -> None:
    run_id, said = bundled.plain.manifest.run_id, len(page.said)
    for odd in ("(", "[", "a{2,1}", "\\", "(?<n"):
        assert searching(page, served, run_id, odd) == f"that isn't a regular expression: {odd}"
        assert page.text().count("0 found") == 1
    assert len(page.said) == said, "nothing on the console"
    page.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.send("Network.setBlockedURLs", {"urls": ["*texts*"]})
    page.send("Page.reload")
    page.wait("document.querySelector('h1, .lines')")
    text = searching(page, served, run_id, "evil", regex=False)
    assert text.startswith(f"run-{'1' if 'run-1' in text else '0'}/texts-00000.parquet can't be fetched: is the server")
    page.send("Network.setBlockedURLs", {"urls": []})
    page.go(f"{served}#/run/{run_id}/samples?q=evil+again")
    page.wait("/^0 found, .* searched/.test(document.querySelector('.counted').innerText)")
    assert not page.evaluate("document.querySelector('.lines .note.bad')")
    own = [line for line in page.said[said:] if "Failed to load resource" not in line]  # the browser's own words
    assert own == []
    del page.said[said:]


def test_nothing_was_said_nobody_else_was_asked_and_nothing_ran(page: Page, served: str) -> None:
    assert page.evaluate(f"[typeof window.evil, document.querySelectorAll('#app :is({MARKUP})').length]") == [
        "undefined",
        0,
    ]
    assert page.said == []
    assert [address for address in page.asked if not address.startswith((served, "data:"))] == []


def test_the_page_carries_its_policy_and_shards_are_small(bundled: Bundled) -> None:
    text = (bundled.folder / "index.html").read_text()
    assert "default-src 'none'" in text and "unsafe" not in text and "frame-ancestors" not in text
    sizes = [path.stat().st_size for path in bundled.folder.rglob("*.parquet")]
    assert len(sizes) > 12
    assert shards.LIMIT <= 8_000_000


def test_a_bundle_doesnt_say_where_and_by_whom_it_was_made(bundled: Bundled) -> None:
    """Neither folders, machines and commands, nor who told a run something; files have names of ours alone."""
    for folder in sorted((bundled.folder / "data").glob("run-*")):
        document = json.loads((folder / "run.json").read_text())
        assert (document["command"], document["account"], document["orders"]) == ("", None, [])
        pools = [pool for one in document["stages"] for pool in (one, *one["roles"].values())]
        assert [one["node"] for pool in pools for one in pool["replicas"]].count("") > 0
        assert {one["node"] for pool in pools for one in pool["replicas"]} == {""}
        assert document["config"]["load"]["source"] == "…/p.jsonl"
    root = bundled.plain.root.url
    texts = [path.read_text() for path in bundled.folder.rglob("*.json")]
    assert len(texts) > 8
    for text in texts:
        assert root not in text and str(bundled.folder.parent) not in text
    assert any("…/p.jsonl" in text for text in texts)
    known = (
        r"(lines|texts|episodes|problems|problem-texts)-\d{5}\.parquet|(run|experts|failures|policy|names|layout)\.json"
    )
    for path in (bundled.folder / "data").glob("run-*/*"):
        assert re.fullmatch(known, path.name), path


class Bundler:
    """Writes a bundle of a run once some of it is committed, while it goes on."""

    def __init__(self, root: Root, folder: Path) -> None:
        self.root, self.folder = root, folder

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        record = next((one for one in manifest.stages if one.name == "sample"), None)
        if record is not None and 0 < record.computed < record.planned and not self.folder.exists():
            site.write_bundle(self.root, [manifest.run_id], self.folder, lambda _: None)

    def say(self, text: str) -> None: ...


def test_a_run_is_bundled_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = Root.at(tmp_path / "root")
    pipeline = scripted_pipeline(write_problems(tmp_path / "p.jsonl", 4), 12, latency=0.05, slots=4)
    settings = QUICK.model_copy(update={"flush_seconds": 0.1})
    run_pipeline(pipeline, LocalRunner(), root.url, settings, Bundler(root, tmp_path / "site"))
    folder = tmp_path / "site" / "data" / "run-0"
    assert json.loads((folder / "run.json").read_text())["state"] == "running"
    lines = pl.read_parquet(folder / "lines-*.parquet")
    problems = pl.read_parquet(folder / "problems-*.parquet")
    assert 0 < len(lines) < 48 and problems["drawn"].sum() == len(lines)
    for row in problems.filter(pl.col("drawn") > 0).iter_rows(named=True):
        assert lines["problem_key"][int(row["first"])] == row["problem_key"]


def test_the_command_bundles_some_runs_or_all(bundled: Bundled, tmp_path: Path) -> None:
    root = bundled.plain.root.url
    runs = {bundled.plain.manifest.run_id, bundled.episodes.manifest.run_id}
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for names in ([], sorted(runs), ["latest"]):
        done = gristmill("view", *names, "--bundle", "site", "--root", root, cwd=tmp_path, env=cache)
        assert done.returncode == 0 and done.stdout == "bundle: site\n", done.stderr
        told = {line["run_id"] for line in json.loads((tmp_path / "site" / "data" / "runs.json").read_text())}
        assert told == (runs if names != ["latest"] else {bundled.episodes.manifest.run_id})
    refused = gristmill("view", *sorted(runs), "--root", root, "--no-browser", cwd=tmp_path, env=cache)
    assert refused.returncode == 2 and "--bundle" in refused.stderr


def test_only_a_bundle_is_replaced(bundled: Bundled, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("kept")
    with pytest.raises(BadInput, match="has other files in it"):
        site.write_bundle(bundled.plain.root, [], tmp_path / "mine", lambda _: None)
    site.write_bundle(bundled.plain.root, [bundled.episodes.manifest.run_id], tmp_path / "site", lambda _: None)
    (tmp_path / "site" / "data" / "run-7").mkdir()
    site.write_bundle(bundled.plain.root, [bundled.episodes.manifest.run_id], tmp_path / "site", lambda _: None)
    assert not (tmp_path / "site" / "data" / "run-7").exists()
    (tmp_path / "link").symlink_to("site")
    site.write_bundle(bundled.plain.root, [bundled.episodes.manifest.run_id], tmp_path / "link", lambda _: None)
    (tmp_path / "link").unlink()
    (tmp_path / "site" / ".git").mkdir()
    with pytest.raises(BadInput, match="has other files in it"):
        site.write_bundle(bundled.plain.root, [], tmp_path / "site", lambda _: None)
    assert (tmp_path / "site" / "index.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "site"]
