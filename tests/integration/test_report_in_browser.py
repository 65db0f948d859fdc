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


@pytest.mark.browser
def test_the_report_opens_without_an_error_and_draws_all_figures(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "this test needs Debian's chromium: run infra/debian.sh"
    source = write_problems(tmp_path / "p.jsonl", 6)
    settings = {
        "load": {"source": str(source)},
        "sample": {"n": 16},
        "engine": {"kind": "scripted", "answers": ["0", "1", "</script><script>throw 1</script>"]},
    }
    pipeline, _ = build_pipeline("math", settings)
    result = run(LocalRunner(), pipeline, tmp_path / "root", QUICK)
    page = write_report(result.root, result.manifest)
    opened = subprocess.run(
        [chromium, *BROWSER, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert opened.returncode == 0, opened.stderr
    assert ":CONSOLE" not in opened.stderr, opened.stderr
    figures = re.findall(r"<svg\b.*?</svg>", opened.stdout, flags=re.DOTALL)
    assert len(figures) >= 5
    assert all("<path" in figure or "<rect" in figure for figure in figures)
    assert "Samples" in opened.stdout
