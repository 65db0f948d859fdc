"""A run's report in a real browser: no error on the console, every figure drawn."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.runners.local import LocalRunner
from jobs.config.settings import build_pipeline
from jobs.running.run import write_report
from tests.support import QUICK, run, write_problems

BROWSER = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
]


INTRUDERS = {
    "a script": "<script>document.title = 'evil'</script>",
    "a handler": "<img src=x onerror=\"document.title = 'evil'\">",
    "a drawing": "<svg onload=\"document.title = 'evil'\"></svg>",
    "a link": "<a id=evil href=\"javascript:void(document.title = 'evil')\"></a><script>evil.click()</script>",
    "a frame": "<iframe srcdoc=\"<script>parent.document.title = 'evil'</script>\"></iframe>",
    "a script from elsewhere": '<script src="evil.js"></script>',
    "another base": '<base href="file:///elsewhere/"><script src="evil.js"></script>',
}


def opened(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Open a page; return what Chromium says on its console, and the page as it then is."""
    chromium = shutil.which("chromium")
    assert chromium, "this test needs Debian's chromium: run infra/debian.sh"
    shown = subprocess.run(
        [chromium, *BROWSER, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert shown.returncode == 0, shown.stderr
    return shown


@pytest.mark.browser
def test_nothing_runs_in_the_page_but_its_own_script(tmp_path: Path) -> None:
    """All intruders at once: had the page's escaping a hole, the browser would still run none of them."""
    source = write_problems(tmp_path / "p.jsonl", 2)
    settings = {"load": {"source": str(source)}, "sample": {"n": 2}, "engine": {"kind": "scripted", "answers": ["0"]}}
    pipeline, _ = build_pipeline("math", settings)
    result = run(LocalRunner(), pipeline, tmp_path / "root", QUICK)
    page = Path(write_report(result.root, result.manifest))
    (page.parent / "evil.js").write_text("document.title = 'evil'")
    text = page.read_text()
    page.write_text(text.replace("<main>", "<main>" + "".join(INTRUDERS.values())))
    shown = opened(page, tmp_path)
    assert "<title>evil</title>" not in shown.stdout
    assert "<li><button" in shown.stdout or 'id="browser" hidden' not in shown.stdout, "its own script didn't run"
    page.write_text(re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text()))
    assert "<title>evil</title>" in opened(page, tmp_path).stdout, "these would run without the policy"


@pytest.mark.browser
def test_the_report_opens_without_an_error_and_draws_all_figures(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 6)
    settings = {
        "load": {"source": str(source)},
        "sample": {"n": 16},
        "engine": {"kind": "scripted", "answers": ["0", "1", "</script><script>throw 1</script>"]},
    }
    pipeline, _ = build_pipeline("math", settings)
    result = run(LocalRunner(), pipeline, tmp_path / "root", QUICK)
    page = write_report(result.root, result.manifest)
    shown = opened(Path(page), tmp_path)
    assert ":CONSOLE" not in shown.stderr, shown.stderr
    figures = re.findall(r"<svg\b.*?</svg>", shown.stdout, flags=re.DOTALL)
    assert len(figures) >= 5
    assert all("<path" in figure or "<rect" in figure for figure in figures)
    assert "Samples" in shown.stdout
