"""What share of llama.cpp's own speed a search gets: a beam led by ``truth``, and the same requests driven bare.

    python -m tests.benchmarks.search_share --problems 8 --rounds 3

*local* runs load -> sample -> verify with episodes of a beam, everything durable, and writes down each request that
is sent to llama.cpp: completions of steps, and the likelihoods that the scorer asks for. *bare* gives the very same
requests to llama.cpp's own interface, in the order in which they were sent, from as many threads as it has slots: no
step waits for another one's score there. Each in a process of its own, from the first request to the last answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.driving.driver import run_pipeline
from cluster.engines.llama_cpp import LlamaCppEngine, _parameters, find_model
from cluster.runners.local import LocalRunner
from operators.load import Load
from operators.sample.sampling import Example, Sampling
from operators.verify.math import VerifyMath
from pipelines.graph import Pipeline
from schemas.engine import LlamaCppSpec

SPEC = LlamaCppSpec(slots=8, context=512)
SHOWN = (
    Example(prompt="2 + 7 - 4 =", completion="2 + 7 = 9\n9 - 4 = 5\n\\boxed{5}"),
    Example(prompt="4 + 7 + 6 =", completion="4 + 7 = 11\n11 + 6 = 17\n\\boxed{17}"),
)
BEAM = {
    "name": "beam", "width": 8, "beam": 4, "scorer": "truth",
    "rule": {"stop": ["\n"], "step_tokens": 24, "max_steps": 6},
}  # fmt: skip


def piped(folder: Path, problems: int) -> dict[str, Any]:
    """Run the pipeline, and write down what llama.cpp was asked."""
    log = (folder / "requests.jsonl").open("a")
    stream, post = LlamaCppEngine._stream, LlamaCppEngine._post

    async def streaming(self: Any, body: dict[str, Any]) -> Any:
        log.write(json.dumps({**body, "stream": False}) + "\n")
        return await stream(self, body)

    async def posting(self: Any, path: str, body: dict[str, Any]) -> Any:
        if path == "/completion" and body["n_predict"] > 0:
            log.write(json.dumps(body) + "\n")
        return await post(self, path, body)

    LlamaCppEngine._stream, LlamaCppEngine._post = streaming, posting  # type: ignore[method-assign]
    config = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    pipeline = Pipeline("share")
    loaded = pipeline.stage("load", Load(source="reasoning_gym:chain_sum", size=problems, config=config))
    operator = Sampling.model_validate({"n": 8, "max_tokens": 64, "few_shot": SHOWN, "strategy": BEAM})
    drawn = pipeline.stage("sample", operator, engine=SPEC, problems=loaded)
    pipeline.stage("verify", VerifyMath(), problems=loaded, samples=drawn)
    runner = LocalRunner()
    result = run_pipeline(pipeline, runner, str(folder / "root"))
    assert result.manifest.state == "done", result.manifest.error
    log.close()
    stage = next(record for record in result.manifest.stages if record.name == "sample")
    [replica] = stage.replicas
    return {"seconds": replica.last - replica.first, "idle": 1 - replica.busy_share}


def bare(folder: Path) -> dict[str, Any]:
    """Give the same requests to llama.cpp's server, through its own binding."""
    import xllamacpp

    bodies = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    server: Any = xllamacpp.Server(_parameters(SPEC, find_model(SPEC.model), "unused"))

    def one(body: dict[str, Any]) -> int:
        body.pop("id_slot", None)
        return int(server.handle_completions(body)["usage"]["completion_tokens"])

    with ThreadPoolExecutor(SPEC.slots + 2) as threads:
        began = time.time()
        list(threads.map(one, bodies))
        return {"seconds": time.time() - began, "requests": len(bodies)}


def measured(mode: str, folder: str, problems: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.search_share", "--child", mode, "--problems", str(problems)]
    done = subprocess.run([*command, "--folder", folder], capture_output=True, text=True, timeout=3600)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert line is not None, done.stderr[-3000:]
    return json.loads(line.removeprefix("FOUND "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder = Path(options.folder)
        found = bare(folder) if options.child == "bare" else piped(folder, options.problems)
        print("FOUND " + json.dumps(found), flush=True)
        os._exit(0)  # what engines do at the end of a process is not measured
    shares: list[float] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = measured("local", folder, options.problems)
            alone = measured("bare", folder, options.problems)
        shares.append(alone["seconds"] / ours["seconds"])
        took = f"bare {alone['seconds']:.1f} s, local {ours['seconds']:.1f} s (idle {100 * ours['idle']:.2f}%)"
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"round {number + 1}: {alone['requests']:,} requests, {took}, share {shares[-1]:.3f}, {load}", flush=True)
    print(f"share of bare: median {statistics.median(shares):.3f} [{min(shares):.3f}, {max(shares):.3f}]")


if __name__ == "__main__":
    main()
