"""The view's page in a real browser: a run watched while it goes on, everything read by keyboard, nothing executed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.recorder import write_manifest
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.moe.replan import replan_experts
from jobs.view.serve import Server
from jobs.view.shown import Shown
from schemas.manifest import RunManifest
from tests.browser import Browser, Page
from tests.integration.test_report_in_browser import INTRUDERS
from tests.support import QUICK, scripted_pipeline
from tests.unit import test_expert_report as expert_report

pytestmark = pytest.mark.browser

N = 24
EVIL = "".join(INTRUDERS.values()) + "\n\n[x](javascript:window.evil=1) ![x](http://evil.example/x.png) **bold** $x^2$"
EVIL += "$\\href{javascript:window.evil=1}{y}$ `<b>`"


@contextmanager
def serving(shown: Shown) -> Iterator[Server]:
    server = Server(shown)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(timeout=30)


def own(server: Server, state: str) -> str:
    return server.address.split("?")[0] + state


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


COUNTED = "document.querySelector('.counted').innerText"
MARKUP = "script, iframe, img, base, object, svg[onload], a[href^=java]"
LEFT_SHOWN = """document.querySelector('.state.running') && [...document.querySelectorAll('.stage')]
    .find((one) => one.querySelector('b').innerText === 'sample')?.querySelector('.number').innerText"""


class Onlooker:
    """Opens the run's page when it has begun, and holds the run until the page shows what was committed."""

    def __init__(self, server: Server, page: Page) -> None:
        self.server, self.page = server, page
        self.seen: list[str] = []

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        record = next((one for one in manifest.stages if one.name == "sample"), None)
        if record is None or not 0 < record.computed < record.planned or len(self.seen) >= 2:
            return
        if not self.seen:
            self.page.go(own(self.server, f"#/run/{manifest.run_id}"))
        wanted = f"({LEFT_SHOWN}) === '{record.computed} of {record.planned}'"
        self.page.wait(wanted)
        self.seen.append(f"{record.computed}")

    def say(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> Iterator[tuple[RunResult, Server, Page, list[str]]]:
    """A run with hostile texts, its page open from its beginning to its end."""
    folder = tmp_path_factory.mktemp("run")
    rows = [
        {"id": f"p{at}{EVIL if at == 0 else ''}", "question": f"{at}? {EVIL}", "answer": str(at % 3)} for at in range(8)
    ]
    source = folder / "p.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = ("0", "1", "2", f"evil {EVIL}".replace("{", "{{").replace("}", "}}"))
    pipeline = scripted_pipeline(source, N, answers=answers, latency=0.05, slots=8)
    (folder / "root").mkdir()
    with serving(Shown(Root.at(folder / "root"))) as server:
        page = browser.open(server.address)
        page.wait("document.querySelector('h1')?.innerText === 'Runs'")
        onlooker = Onlooker(server, page)
        runner = LocalRunner()
        try:
            result = run_pipeline(pipeline, runner, str(folder / "root"), QUICK, onlooker)
        finally:
            runner.close()
        yield result, server, page, onlooker.seen


def test_a_run_is_watched_while_it_goes_on(watched: tuple[RunResult, Server, Page, list[str]]) -> None:
    result, server, page, seen = watched
    assert seen, "the run ended before anything of it could be shown"
    page.go(own(server, f"#/run/{result.manifest.run_id}"))
    page.wait("document.querySelector('.state.done')")
    page.wait(f"document.querySelector('.tile .value').innerText === '{8 * N}'")
    page.wait("document.querySelectorAll('.uplot canvas').length >= 2")


def test_from_the_runs_to_a_sample(watched: tuple[RunResult, Server, Page, list[str]]) -> None:
    result, server, page, _ = watched
    page.go(own(server, "#/runs"))
    page.wait(f"document.querySelector('td.name a')?.innerText === '{result.manifest.run_id}'")
    page.key("Enter")
    page.click(".tabs a:nth-child(2)")
    page.wait("document.querySelectorAll('table.problems tbody tr').length === 8")
    page.evaluate("[...document.querySelectorAll('.histogram:first-child .bars button')].at(-1).click()")
    page.wait("location.hash.includes('rate=') && document.querySelectorAll('table.problems tbody tr').length < 8")
    page.click(".histogram.chosen figcaption button")
    page.wait("document.querySelectorAll('table.problems tbody tr').length === 8")
    page.key("j")
    page.wait("document.querySelector('tr.at') === document.querySelectorAll('tbody tr')[1]")
    page.key("Enter")
    page.wait(f"document.querySelectorAll('.dot').length === {N}")
    page.click(".dot")
    page.wait("document.querySelector('.sample .completion')")
    assert "problem=" in page.evaluate("location.hash")


def test_samples_by_filter_search_and_keyboard(watched: tuple[RunResult, Server, Page, list[str]]) -> None:
    result, server, page, _ = watched
    page.go(own(server, f"#/run/{result.manifest.run_id}/samples"))
    page.wait(f"document.querySelector('.counted').innerText === '{8 * N} samples'")
    page.click(".tag.right")
    page.wait("location.hash.includes('verdict=right') && document.querySelector('.line .mark.right')")
    page.wait("!document.querySelector('.line .mark.wrong')")
    right = int(
        page.wait(f"/^\\d+ samples$/.test({COUNTED}) && {COUNTED} !== '{8 * N} samples' && {COUNTED}").split()[0]
    )
    assert 0 < right < 8 * N
    page.key("j")
    page.wait("document.querySelector('.line.at')")
    first = page.evaluate("location.hash")
    page.key("d")
    page.key("j")
    page.wait(f"location.hash !== {json.dumps(first)} && document.querySelector('.sample')")
    page.key("d")
    page.wait("document.querySelectorAll('.diff .column').length === 2")
    page.key("Escape")
    page.wait("document.querySelector('.sample .completion')")
    page.key("v")
    page.wait("location.hash.includes('raw=1') && document.querySelector('.completion pre.text')")
    page.key("?")
    page.wait("document.querySelector('.help')")
    page.key("Escape")
    page.wait("!document.querySelector('.help')")
    page.go(own(server, f"#/run/{result.manifest.run_id}/samples"))
    page.wait("document.querySelector('.line') && !location.hash.includes('?')")
    page.key("/")
    page.type("EVIL <script>")
    page.key("Enter")
    found = page.wait(f"/searched/.test({COUNTED}) && !document.querySelector('.counted button') && {COUNTED}")
    texts = result.dataset("sample").select("completion").collect()["completion"]
    assert found.startswith(f"{texts.str.contains('evil <script>', literal=True).sum()} found, {8 * N} searched")
    page.go(own(server, f"#/run/{result.manifest.run_id}/samples?q=%28&regex=1"))
    said = page.wait("document.querySelector('.lines .note.bad')?.innerText")
    assert said == "that isn't a regular expression: ("


def test_hostile_texts_are_shown_and_do_nothing(watched: tuple[RunResult, Server, Page, list[str]]) -> None:
    result, server, page, _ = watched
    for raw in ("", "&raw=1"):
        page.go(own(server, f"#/run/{result.manifest.run_id}/samples?q=evil{raw}"))
        page.wait("document.querySelector('.line') && !document.querySelector('.counted button')")
        page.key("j")
        page.wait("document.querySelector('.completion')?.innerText.includes('evil')")
        shown = page.evaluate("document.querySelector('.completion').innerText")
        assert "<script>" in shown and "bold" in shown, "what a model wrote is shown, tags and all"
        inside = page.evaluate(f"document.querySelectorAll('#app :is({MARKUP})').length")
        assert inside == 0
    assert page.evaluate("[typeof window.evil, document.title]") == ["undefined", page.evaluate("document.title")]
    assert "evil" not in page.evaluate("document.title")
    key = result.dataset("load").select("problem_key", "problem_id").collect().sort("problem_id")["problem_key"][0]
    page.go(own(server, f"#/run/{result.manifest.run_id}/problem/{key}"))
    page.wait("document.querySelector('h1')?.innerText.startsWith('p0<script>')")
    assert page.evaluate("typeof window.evil") == "undefined"


def test_nothing_was_said_on_the_console_and_nobody_else_was_asked(
    watched: tuple[RunResult, Server, Page, list[str]],
) -> None:
    _, server, page, _ = watched
    base = server.address.split("?")[0]
    assert page.said == []
    assert [address for address in page.asked if not address.startswith((base, "data:"))] == []


def test_a_bare_table_is_read_the_same_way(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    texts = [f"row {at} {EVIL}" for at in range(70)]
    pl.DataFrame({"completion": texts, "is_correct": [at % 2 == 0 for at in range(70)]}).write_parquet(path)
    with serving(Shown(None, path)) as server:
        page = browser.open(server.address)
        page.wait("document.querySelector('.counted')?.innerText === '70 rows'")
        page.click(".tag.wrong")
        page.wait("document.querySelector('.counted')?.innerText === '35 rows'")
        page.wait("document.querySelector('.line')?.innerText.includes('row 1 ')")
        page.key("j")
        page.wait("document.querySelector('.completion')?.innerText.startsWith('row 1 ')")
        assert page.said == []


def test_tokens_are_shown_with_their_log_probs(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    tokens = ["sure ", EVIL, "hardly"]
    row = {"completion": "".join(tokens), "tokens": tokens, "token_logprobs": [-0.01, -0.5, -6.0]}
    pl.DataFrame([row]).write_parquet(path)
    with serving(Shown(None, path)) as server:
        page = browser.open(f"{server.address}#/table?at=0")
        page.wait("document.querySelectorAll('.tokens span').length === 3")
        kinds = page.evaluate("[...document.querySelectorAll('.tokens span')].map((one) => one.className)")
        assert kinds == ["t1", "t2", "t4"]
        assert page.evaluate("document.querySelectorAll('.tokens span')[1].textContent") == EVIL
        assert page.evaluate(f"document.querySelectorAll('.tokens :is({MARKUP})').length") == 0
        assert page.said == []


def test_experts_are_a_heat_map_beside_their_balance(browser: Browser, tmp_path: Path) -> None:
    spec = expert_report.spec(tmp_path / "counts")
    expert_report.count(tmp_path / "counts", 1, expert_report.NIGHT)
    replan_experts(spec)
    root = Root.at(tmp_path / "root")
    write_manifest(root, expert_report.manifest(spec))
    with serving(Shown(root)) as server:
        page = browser.open(f"{server.address}#/run/r")
        heat = f"{{width: {expert_report.EXPERTS}, height: {expert_report.LAYERS}}}"
        page.wait(f"(({{width, height}}) => JSON.stringify({{width, height}}) === JSON.stringify({heat}))"
                  "(document.querySelector('canvas.heat'))")  # fmt: skip
        page.wait("/measured, mean [01][.]\\d{3}/.test(document.querySelector('.experts .legend').innerText)")
        dark = "[...document.querySelector('canvas.heat').getContext('2d').getImageData(0, 0, 128, 1).data]"
        alphas = page.evaluate(f"{dark}.filter((_, at) => at % 4 === 3)")
        assert alphas == sorted(alphas, reverse=True) and alphas[0] > alphas[-1], "the heaviest first"
        assert page.said == []


def test_it_fits_a_telephone_and_the_dark(watched: tuple[RunResult, Server, Page, list[str]]) -> None:
    result, server, page, _ = watched
    run = f"#/run/{result.manifest.run_id}"
    for width, dark in ((360, True), (3840, False)):
        page.look(width, 800, dark)
        for state in ("#/runs", run, f"{run}/problems", f"{run}/samples?at=0"):
            page.go(own(server, state))
            page.wait("document.querySelector('table.list, .stages, .sample .completion')")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (state, width)
        colours = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (colours == "rgb(23, 23, 22)") is dark
