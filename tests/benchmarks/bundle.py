"""How fast a bundle is in a browser: a run of a million samples, from a server with ranges and from one without.

    python -m tests.benchmarks.view make ROOT --problems 1000 --n 1000     # once
    python -m tests.benchmarks.bundle ROOT SITE                            # writes the bundle, then opens pages of it

Times are from the beginning of a page's loading, in a new page without a cache, until what is named is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.storage.root import Root
from jobs.view.bundle.site import write_bundle
from tests.browser import Browser

RANGES = """
import sys, uvicorn
from starlette.staticfiles import StaticFiles
from jobs.view.serve import listen
socket = listen("127.0.0.1", 0)
print("port", socket.getsockname()[1], "", flush=True)
files = StaticFiles(directory=sys.argv[1], html=True)
uvicorn.Server(uvicorn.Config(files, log_config=None, access_log=False, lifespan="off")).run([socket])
"""
SHOWN = {
    "first row": ("", "document.querySelector('.line .snippet')?.innerText"),
    "first row of wrong and long": (
        "?verdict=wrong&tokens=2500..",
        "document.querySelector('.line .snippet')?.innerText",
    ),
    "first row, longest first": ("?sort=tokens", "document.querySelector('.line .snippet')?.innerText"),
    "nothing fits": ("?verdict=timeout", "document.querySelector('.lines .note')?.innerText"),
    "one sample": ("?at=765432", "document.querySelector('.completion')?.innerText"),
    "first hit of a search": ("?q=sum%20again%20carry", "document.querySelector('.line .snippet')?.innerText"),
}


@contextlib.contextmanager
def serving(folder: Path, ranges: bool) -> Iterator[str]:
    """Hand a folder out by a process of its own."""
    plain = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(folder), "0"]
    command = [sys.executable, *(["-c", RANGES, str(folder)] if ranges else plain)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().split('port ')[1].split(' ')[0]}/"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("site", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    began = time.perf_counter()
    write_bundle(Root.at(given.root), [], given.site, print)
    sizes = [path.stat().st_size for path in given.site.rglob("*") if path.is_file()]
    print(f"written in {time.perf_counter() - began:.0f} s: {len(sizes)} files, {sum(sizes) / 1e6:.0f} MB")
    run = next((given.site / "data").glob("run-0"))
    run_id = (run / "layout.json").read_text().split('"run": "')[1].split('"')[0]
    with tempfile.TemporaryDirectory() as scratch, Browser(Path(scratch)) as browser:
        for ranges in (True, False):
            with serving(given.site, ranges) as address:
                for name, (query, condition) in SHOWN.items():
                    took: list[float] = []
                    for _ in range(given.repeats):
                        page = browser.open("about:blank")
                        page.send("Network.setCacheDisabled", {"cacheDisabled": True})
                        page.send("Page.navigate", {"url": f"{address}#/run/{run_id}/samples{query}"})
                        page.wait(f"location.href.startsWith({address!r}) && {condition}")
                        took.append(page.evaluate("performance.now()"))
                        browser.send("Target.closeTarget", {"targetId": page.target})
                    server = "ranges" if ranges else "whole files"
                    print(f"{server}, {name}: median {statistics.median(took):.0f} ms, worst {max(took):.0f} ms")


if __name__ == "__main__":
    main()
