"""How fast the view is: a root with millions of synthetic samples, and one with thousands of runs.

    python -m tests.benchmarks.view make ROOT --problems 10000 --n 1000     # once; 10 million samples
    python -m tests.benchmarks.view ask ROOT                                # cold index, then 20 times each page
    python -m tests.benchmarks.view runs ROOT --runs 10000
    python -m tests.benchmarks.view watch ROOT --seconds 60                 # the processor's time of watching a run

Times are of the server's answers, over HTTP on the loopback interface.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import polars as pl

from cluster.records.recorder import write_manifest
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.snapshot import Snapshot
from cluster.storage.store import Store
from schemas.contract import Contract, polars_schema
from schemas.datasets import Problem, Sample, Verdict
from schemas.manifest import EngineRecord, Posterior, RunManifest, StageRecord
from tests.benchmarks.memory import pss

PART = 100_000
REPEATS = 20
WORDS = ["so", "we", "add", "the", "numbers", "and", "carry", "one", "over", "then", "check", "a", "sum", "again"]


def keys_of(problems: int) -> pl.Series:
    return pl.Series([f"{at:032x}" for at in range(problems)])


def filled(columns: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """Return columns with all others of their contract, null."""
    schema = polars_schema(contract)
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in columns.columns]
    return columns.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in schema.items())


def make(root: Root, problems: int, n: int) -> None:
    """Write a run with ``problems`` x ``n`` judged samples."""
    rng = np.random.default_rng(0)
    keys = keys_of(problems)
    rate = rng.beta(0.6, 1.2, problems)
    snapshot = Snapshot(root, "load", "synthetic", Problem)
    names = pl.Series([f"p{at}" for at in range(problems)])
    prompts = pl.Series([f"What is {at} + {at % 97}?" for at in range(problems)])
    said = {"answer": "7", "task_type": "sums", "verification": "{}", "metadata": "{}"}
    same = [pl.lit(text).alias(name) for name, text in said.items()]
    table = pl.DataFrame({"problem_key": keys, "problem_id": names, "prompt": prompts}).with_columns(same)
    snapshot.finish({(part := snapshot.write(0, filled(table, Problem))).name: part.rows}, {}, {})
    samples = Store(root, "samples/synthetic", Sample, {"is": "synthetic"})
    verdicts = Store(root, "verdicts/synthetic", Verdict, {"is": "synthetic"})
    samples.acquire("make")
    verdicts.acquire("make")
    texts = pl.Series([" ".join(rng.choice(WORDS, 24)) for _ in range(5000)])
    for first in range(0, problems * n, PART):
        at = np.arange(first, min(first + PART, problems * n))
        number, index = at // n, at % n
        right = rng.random(len(at)) < rate[number]
        said = np.where(right, 7, rng.geometric(0.2, len(at)) + 7)
        tokens = rng.gamma(2.0, 300.0, len(at)).astype(np.int64) + 1
        about = {"problem_key": keys.gather(number), "sample_index": index, "problem_id": names.gather(number)}
        found = pl.DataFrame(about)
        ends = texts.gather(rng.integers(0, len(texts), len(at)))
        rows = found.with_columns(
            completion=ends + pl.Series(said).cast(pl.String),
            completion_hash=pl.Series(at),
            status=pl.lit("ok"),
            finish_reason=pl.when(pl.Series(tokens > 2000)).then(pl.lit("length")).otherwise(pl.lit("stop")),
            prompt_tokens=pl.lit(20),
            cached_prompt_tokens=pl.lit(0),
            completion_tokens=pl.Series(tokens),
            seed=pl.Series(at),
            run_id=pl.lit("synthetic"),
        )
        judged = found.with_columns(
            verifier=pl.lit("exact"),
            predicted_answer=pl.Series(said).cast(pl.String),
            answer_key=pl.Series(said).cast(pl.String),
            is_correct=pl.Series(right),
            status=pl.lit("ok"),
            seconds=pl.lit(0.0),
        )
        samples.commit([write_part(root, samples.folder, filled(rows, Sample), Sample, "sample")])
        verdicts.commit([write_part(root, verdicts.folder, filled(judged, Verdict), Verdict, "verify")])
    samples.release()
    verdicts.release()
    run = f"synthetic-{datetime.now(UTC):%Y%m%d-%H%M%S}-0000"
    view = pl.DataFrame({"problem_key": keys, "first": [0] * problems, "count": [n] * problems})
    buffer = io.BytesIO()
    view.write_parquet(buffer)
    root.write_bytes(buffer.getvalue(), "runs", run, "views", "all.parquet")
    total = problems * n
    store = {"kind": "store", "view": f"runs/{run}/views/all.parquet", "view_id": "all", "planned": total}
    snap = {"kind": "snapshot", "path": snapshot.folder, "view_id": "synthetic", "planned": problems}
    records = [
        {**snap, "name": "load", "operator": "load", "dataset": "problems", "computed": problems},
        {**store, "name": "sample", "operator": "sample", "dataset": "samples", "path": samples.folder},
        {**store, "name": "verify", "operator": "verify.exact", "dataset": "verdicts", "path": verdicts.folder},
    ]
    inputs = [{}, {"problems": "load"}, {"samples": "sample"}]
    stages = [
        StageRecord.model_validate({"computed": total, "complete": True, **record, "inputs": read})
        for record, read in zip(records, inputs, strict=True)
    ]
    write_manifest(root, manifest(run, 0, problems).model_copy(update={"stages": stages}))


def manifest(run: str, at: int, problems: int) -> RunManifest:
    """Return the manifest of a run that took ``at`` for its number."""
    began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=11 * at)
    engine = EngineRecord(model=f"model-{at % 5}", revision="1", family="synthetic", context=4096, logprobs="none")
    stage = StageRecord(
        name="sample",
        operator="sample",
        dataset="samples",
        kind="store",
        path="samples/none",
        view_id="none",
        computed=1000 + at,
        completion_tokens=10**6 + at,
        prompt_tokens=10**5,
        engine=engine,
        complete=True,
    )
    return RunManifest(
        run_id=run,
        pipeline=f"pipeline-{at % 9}",
        state="done" if at % 17 else "failed",
        started=began,
        finished=began + timedelta(seconds=60 + at % 900),
        n_problems=problems,
        prices={"sample": {"dollars_per_million_prompt_tokens": 1.0, "dollars_per_million_completion_tokens": 2.0}},
        posteriors={"verify": Posterior(model="m", a=1, b=1, problems=problems, samples=1000, correct=400 + at % 300)},
        stages=[stage],
    )


class Served:
    """A server in a process of its own."""

    def __init__(self, root: str) -> None:
        command = [sys.executable, "-m", "jobs.cli", "view", "--root", root, "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split("view: ")[1].strip()
        self.client = httpx.Client(follow_redirects=True, timeout=600, trust_env=False)
        self.client.get(self.address)
        self.base = self.address.split("?")[0]

    def get(self, path: str, **query: str) -> dict:
        while True:
            answer = self.client.get(self.base + path, params=query)
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 200:
                return answer.json()
            time.sleep(0.1)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def timed(served: Served, name: str, path: str, **query: str) -> None:
    """Print the median and the worst of ``REPEATS`` answers."""
    took: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        served.get(path, **query)
        took.append(1000 * (time.perf_counter() - began))
    print(f"{name}: first {took[0]:.0f} ms, median {statistics.median(took):.0f} ms, worst {max(took):.0f} ms")


def ask(root: str) -> None:
    """Print how long the index takes, and each page."""
    with contextlib.closing(Served(root)) as served:
        _ask(served)


def _ask(served: Served) -> None:
    run = f"api/run/{served.get('api/runs')['runs'][0]['run_id']}"
    began = time.perf_counter()
    served.get(f"{run}/samples", limit="1")
    print(f"index: {time.perf_counter() - began:.1f} s; {pss(served.process.pid) / 1e6:.0f} MB afterwards")
    filters: dict[str, dict[str, str]] = {
        "all": {},
        "wrong and long": {"verdict": "wrong", "tokens": "2500.."},
        "rare: one answer, right": {"answer": "40", "verdict": "wrong", "tokens": "4500.."},
        "nothing fits": {"verdict": "timeout"},
        "longest first": {"sort": "tokens"},
        "one problem": {"problem": f"{1000:032x}"},
    }
    for name, asked in filters.items():
        timed(served, f"page, {name}", f"{run}/samples", limit="60", **asked)
        timed(served, f"its texts, {name}", f"{run}/samples", limit="60", texts="1", **asked)
        timed(served, f"its count, {name}", f"{run}/count", **asked)
    timed(served, "one sample", f"{run}/sample/123456")
    timed(served, "problems", f"{run}/problems", sort="entropy")
    began = time.perf_counter()
    with served.client.stream("GET", served.base + f"{run}/search", params={"text": "sum again carry"}) as answer:
        hit = next(line for line in answer.iter_lines() if '"slot"' in line)
    print(f"search: first hits after {time.perf_counter() - began:.2f} s ({len(hit)} bytes)")
    print(f"memory: {pss(served.process.pid) / 1e6:.0f} MB")


def list_runs(root: str, runs: int) -> None:
    """Print how long the list of runs takes."""
    place = Root.at(root)
    for at in range(runs):
        write_manifest(place, manifest(f"pipeline-{at % 9}-{at:06}", at, 100))
    with contextlib.closing(Served(root)) as served:
        _list_runs(served)


def _list_runs(served: Served) -> None:
    began = time.perf_counter()
    total = served.get("api/runs")["total"]
    print(f"{total:,} runs: read in after {time.perf_counter() - began:.1f} s")
    filters: dict[str, dict[str, str]] = {
        "newest": {},
        "by cost": {"sort": "cost"},
        "one pipeline": {"pipeline": "pipeline-3"},
        "text": {"text": "0042"},
        "one model": {"model": "model-2"},
    }
    for name, asked in filters.items():
        timed(served, f"runs, {name}", "api/runs", **asked)


def cpu_seconds(pid: int) -> float:
    """Return the processor's time that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(folder: str, seconds: float) -> None:
    """Print what share of a core a view takes that one page of a running run is open at."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "p.jsonl").write_text(
        "".join(f'{{"id": "p{at}", "question": "{at}?", "answer": "1"}}\n' for at in range(50))
    )
    engine = "engine={kind: scripted, answers: ['1', '2'], latency: 1.0, jitter: 0.5, slots: 32}"
    command = [sys.executable, "-m", "jobs.cli", "run", "math", "--runner", "local", "--root", str(place / "root")]
    command += ["--set", f"load.source={place / 'p.jsonl'}", "--set", "sample.n=1000", "--set", engine]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with contextlib.closing(Served(str(place / "root"))) as served:
            while not (runs := served.get("api/runs")["runs"]) or runs[0]["state"] != "running":
                time.sleep(0.5)
            with served.client.stream("GET", f"{served.base}api/run/{runs[0]['run_id']}/live") as answer:
                lines = (line for line in answer.iter_lines() if line.startswith("data: "))
                next(lines)
                before, began, news = cpu_seconds(served.process.pid), time.perf_counter(), 0
                while (passed := time.perf_counter() - began) < seconds:
                    next(lines)
                    news += 1
                spent = cpu_seconds(served.process.pid) - before
            print(f"watching: {100 * spent / passed:.1f}% of a core over {passed:.0f} s, {news} times news")
    finally:
        run.terminate()
        run.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "ask", "runs", "watch"])
    parser.add_argument("root")
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "make":
        make(Root.at(given.root), given.problems, given.n)
    elif given.what == "ask":
        ask(given.root)
    elif given.what == "watch":
        watch(given.root, given.seconds)
    else:
        list_runs(given.root, given.runs)


if __name__ == "__main__":
    main()
