"""What a run loses when a view is open at it: the same run with and without a watcher, in turn.

    python -m tests.benchmarks.watched ROOT                   # 10 pairs of 10,000 samples, a minute or four

Each run draws from the stub server (50 ms for every request, 64 at once) with the local runner. When it is watched, a
view serves the root and one page hears its news, asks for what such a page shows, and for a page of samples at each
news. All share this machine's cores. Samples a second are counted from the server's first request to the run's end;
which of the two comes first alternates.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from tests.benchmarks.view import Served

PORT = 18091
PROBLEMS, SAMPLES = 10, 1000


def run(root: Path, server: httpx.Client) -> float:
    """Run 10 x 1,000 samples and return how many came a second."""
    server.post("/reset")
    problems = root / "problems.jsonl"
    problems.parent.mkdir(parents=True, exist_ok=True)
    problems.write_text("".join(f'{{"id": "p{at}", "question": "{at}?", "answer": "1"}}\n' for at in range(PROBLEMS)))
    engine = f"engine={{kind: openai, url: 'http://127.0.0.1:{PORT}/v1', model: stub, concurrency: 64}}"
    command = [sys.executable, "-m", "jobs.cli", "run", "math", "--runner", "local", "--root", str(root / "root")]
    command += ["--set", f"load.source={problems}", "--set", f"sample.n={SAMPLES}", "--set", "sample.max_tokens=64"]
    with subprocess.Popen([*command, "--set", engine], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        process.wait()
    assert process.returncode == 0, process.returncode
    stats = server.get("/stats").json()
    assert stats["completions"] == PROBLEMS * SAMPLES, stats
    return PROBLEMS * SAMPLES / (time.monotonic() - stats["first"])


class Watcher:
    """A page at the newest run of a root: what it hears and asks for."""

    def __init__(self, root: Path) -> None:
        self.news = 0
        self._served = Served(str(root / "root"))
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            while not (runs := self._served.get("api/runs")["runs"]) or runs[0]["state"] != "running":
                time.sleep(0.2)
            about = f"api/run/{runs[0]['run_id']}"
            with self._served.client.stream("GET", f"{self._served.base}{about}/live") as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.news += 1
                        self._served.get(f"{about}/samples", limit="60", texts="1")

    def close(self) -> int:
        self._served.close()
        self._thread.join(10)
        return self.news


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    given = parser.parse_args()
    stub = [sys.executable, "-m", "tests.benchmarks.stub_server", "--port", str(PORT), "--minutes", "30"]
    ratios = []
    with subprocess.Popen(stub) as server, httpx.Client(base_url=f"http://127.0.0.1:{PORT}", trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                client.get("/health")
                break
            time.sleep(0.1)
        try:
            for at in range(given.pairs):
                speed = {}
                for watched in (bool(at % 2), not at % 2):
                    root = given.root / f"{at}-{'watched' if watched else 'alone'}"
                    (root / "root").mkdir(parents=True)
                    watcher = Watcher(root) if watched else None
                    speed[watched] = run(root, client)
                    news = watcher.close() if watcher else 0
                    print(f"pair {at}, {'watched' if watched else 'alone'}: {speed[watched]:.0f} a second, {news} news")
                ratios.append(speed[True] / speed[False])
        finally:
            server.terminate()
    mean = statistics.mean(ratios)
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    print(f"watched / alone: {mean:.3f} (standard error {error:.3f}, {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
