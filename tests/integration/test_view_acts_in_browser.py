"""What the page does with ``--control``, in a real browser: a run is told something, verdicts are annotated by keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.records.annotations import annotations_of
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.view.serve import Server
from jobs.view.shown import Shown
from tests.browser import Browser
from tests.orders import Going, computed
from tests.support import QUICK, run, scripted_pipeline, write_problems

pytestmark = pytest.mark.browser


@contextmanager
def serving(root: Path, control: bool) -> Iterator[Server]:
    server = Server(Shown(Root.at(root)), control=control)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(timeout=30)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def test_a_run_is_told_something(browser: Browser, tmp_path: Path) -> None:
    pipeline = scripted_pipeline(write_problems(tmp_path / "p.jsonl", 2), 100_000, latency=0.02, slots=4)
    with (
        Going(LocalRunner(), pipeline, tmp_path / "root", QUICK) as going,
        serving(tmp_path / "root", True) as server,
    ):
        going.when(computed)
        page = browser.open(server.address)
        page.go(f"{server.address.split('?')[0]}#/run/{going.run_id}")
        page.wait("document.querySelector('.control label input')")
        page.evaluate("document.querySelector('.control label input').focus()")
        page.type("<img src=x onerror=alert(1)> the evening")
        page.click("[data-act=pause]")
        manifest = going.when(lambda manifest: manifest.paused)
        assert manifest.paused is not None and manifest.paused.reason.endswith("the evening")
        page.wait("document.querySelector('.orders')?.innerText.includes('the evening')")
        assert page.evaluate("document.querySelector('[data-act=set]').disabled"), "no value takes no cap away"
        page.evaluate("document.querySelectorAll('.control input')[2].focus()")
        page.type("null")  # no cap, where there never was one
        page.click("[data-act=set]")
        page.wait("document.querySelector('.control .note.bad')?.innerText.includes('began without a cap')")
        page.click("[data-act=resume]")
        going.when(lambda manifest: manifest.paused is None)
        page.wait("document.querySelector('[data-act=pause]')")
        assert page.evaluate("document.querySelectorAll('main img').length") == 0
        page.evaluate("window.confirm = () => true")
        page.click("[data-act=cancel]")
        assert going.end().state == "interrupted"


def test_verdicts_are_annotated_by_keys(browser: Browser, tmp_path: Path) -> None:
    result = run(LocalRunner(), scripted_pipeline(write_problems(tmp_path / "p.jsonl", 3), 12), tmp_path / "root")
    root, manifest = result.root, result.manifest
    with serving(tmp_path / "root", True) as server:
        page = browser.open(server.address)
        page.go(f"{server.address.split('?')[0]}#/run/{manifest.run_id}/annotate")
        for at, key in enumerate("rwr"):
            page.wait(f"document.querySelector('.head .quiet')?.innerText.startsWith('{at + 1} of 20')")
            page.wait("document.querySelector('.marks button') && document.querySelector('.sample .completion')")
            page.key(key)
        page.wait("document.querySelector('.head .quiet').innerText.endsWith('3 said')")
        page.key("k")
        page.wait("document.querySelector('.marks p.quiet')?.innerText.includes('found the sample right')")
        asked = [address for address in page.asked if "/annotation" in address]
        assert asked and all("sample_index=" in address for address in asked), "it asks about what it shows alone"
        said = annotations_of(root, manifest)
        assert sorted(said["is_correct"].to_list()) == [False, True, True] and said["stratum"].null_count() == 0
        page.go(f"{server.address.split('?')[0]}#/run/{manifest.run_id}/samples?at=0")
        page.wait("document.querySelector('.sample .marks input')")
        page.key("n")
        page.type("it says <b>so</b>")
        page.click("[data-mark=false]")
        page.wait("document.querySelector('.sample .marks')?.innerText.includes('it says <b>so</b>')")
    assert "it says <b>so</b>" in annotations_of(root, manifest)["note"].to_list()
    with serving(tmp_path / "root", False) as server:
        page = browser.open(server.address)
        page.go(f"{server.address.split('?')[0]}#/run/{manifest.run_id}/samples?at=0")
        page.wait("document.querySelector('.sample .completion')")
        assert page.evaluate("document.querySelectorAll('.marks, .control').length") == 0
        assert "Annotate" not in page.text()
