"""One problem, many samples: whether memory grows with samples, in the driver and in every worker.

    python -m tests.benchmarks.many_samples --samples 1000,100000 --runner local
    python -m tests.benchmarks.many_samples --samples 1000,100000 --runner ray

The pipeline samples (the scripted engine's texts all differ), verifies, measures pass@k, selects by several methods and
makes training rows. Each measurement is a process of its own. The driver's peak is its resident set as the kernel
counts it; that of each kind of worker is the largest that was seen (PSS, object store left out). ``course`` is the
driver's peak as the run went on, [seconds, MB]: where it grows tells which stage takes it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
WORDS = "Consider what follows step by step, and add what is left of it to what was there before. "
ANSWERS = tuple(f"{WORDS * 4} So it is \\boxed{{{answer}}}. ({{seed}})" for answer in range(3))


def pipeline(source: Path, samples: int, verifier: str) -> Any:
    """Return load -> sample -> verify -> pass@k, select.several, sft."""
    from operators import operator_class
    from operators.load import Load
    from pipelines.graph import Pipeline
    from schemas.engine import ScriptedSpec

    made = Pipeline("many_samples")
    problems = made.stage("load", Load(source=str(source)))
    engine = ScriptedSpec(answers=ANSWERS, slots=256, context=8192)
    drawn = made.stage("sample", operator_class("sample")(n=samples), engine=engine, problems=problems)
    verdicts = made.stage("verify", operator_class(verifier)(), problems=problems, samples=drawn)
    made.stage("coverage", operator_class("measure.pass_at_k")(), verdicts=verdicts)
    methods = ({"operator": "select.majority"}, {"operator": "select.perplexity"})
    several = operator_class("select.several").model_validate({"methods": methods})
    inputs = {"samples": drawn, "verdicts": verdicts}
    made.stage("select", several, **{name: inputs[name] for name in several.inputs if name in inputs})
    made.stage("sft", operator_class("synthesize.sft")(), problems=problems, samples=drawn, verdicts=verdicts)
    return made


def measure(source: Path, samples: int, root: Path, runner_name: str, verifier: str) -> dict[str, Any]:
    """Run once, in this process."""
    from cluster.driving.driver import run_pipeline
    from schemas.job import RunSettings
    from tests.benchmarks.memory import PeakMemory
    from tests.support import make_runner

    runner = make_runner(runner_name)
    course: list[tuple[int, int]] = []
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(2.0):
            course.append((round(time.monotonic() - began), _peak()))

    threading.Thread(target=watch, daemon=True).start()
    with PeakMemory() as memory:
        try:
            result = run_pipeline(pipeline(source, samples, verifier), runner, str(root), RunSettings())
        finally:
            runner.close()
    over.set()
    workers = {name: size // 2**20 for name, size in sorted(memory.by_process.items()) if name.startswith("ray::")}
    seconds = time.monotonic() - began
    found = {"state": result.manifest.state, "seconds": round(seconds, 1), "driver_mb": _peak(), "workers_mb": workers}
    return {"runner": runner_name, "samples": samples, **found, "course": course[:: max(1, len(course) // 20)]}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="1000,100000", help="of the one problem; several with commas between")
    parser.add_argument("--runner", choices=["local", "ray"], default="local")
    parser.add_argument("--verifier", default="verify.math")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root is not None:
        source = options.root.parent / "problems.jsonl"
        source.write_text('{"id": "p", "question": "What is 1 + 0?", "answer": "1"}\n')
        found = measure(source, int(options.samples), options.root, options.runner, options.verifier)
        print(json.dumps(found))
        return
    for samples in options.samples.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            words = ["--samples", samples, "--runner", options.runner, "--verifier", options.verifier]
            command = [sys.executable, "-m", "tests.benchmarks.many_samples", *words, "--root", f"{scratch}/root"]
            subprocess.run(command, cwd=HERE, check=True)


if __name__ == "__main__":
    main()
