"""How long commands take to start: CPU seconds (user and system) beside what their libraries alone take to import.

    python -m tests.benchmarks.start [--times 10] [--runs 100]

Ratios of one run are comparable, seconds aren't: commands take turns, and of each the fastest half counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs.commands.table import PLACES

SHORT = [sys.executable, "-c", "import typer, rich"]
LONG = [sys.executable, "-c", "import polars, pydantic, typer, rich"]
GRISTMILL = [sys.executable, "-m", "jobs.cli"]
DEMO = ["run", "arithmetic", "--runner", "local", "--set", "load.size=4", "--set", "sample.n=4"]


def cpu(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command and return the CPU seconds that it and its children took."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}: {said.decode()[-2000:]}")
    return used.ru_utime + used.ru_stime


def many_runs(root: Path, runs: int) -> None:
    """Copy the manifest of a root's only run, until there are so many."""
    import json

    (first,) = (root / "runs").glob("*/manifest.json")
    document = json.loads(first.read_text())
    for number in range(1, runs):
        name = f"{document['run_id']}-{number}"
        (root / "runs" / name).mkdir()
        (root / "runs" / name / "manifest.json").write_text(json.dumps({**document, "run_id": name}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "NO_COLOR": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode, too
        environment["GRISTMILL_ROOT"] = str(folder / "data")
        (folder / "problems.jsonl").write_text('{"question": "What is 2 + 2?", "answer": "4"}\n')
        (folder / "math.yaml").write_text("pipeline: math\nsettings: {load: {source: problems.jsonl}}\n")
        (folder / "sums.yaml").write_text("pipeline: arithmetic\n")
        cpu([*GRISTMILL, *DEMO], folder, environment)
        many_runs(folder / "data", given.runs)
        short = {"--version": ["--version"], "--help": ["--help"]}
        long = {
            "validate math.yaml": ["validate", "math.yaml"],
            "validate sums.yaml": ["validate", "sums.yaml"],
            "op verify.math --help": ["op", "verify.math", "--help"],
            f"runs ({given.runs})": ["runs"],
            "samples --limit 2": ["samples", "latest", "--limit", "2"],
            "run, nothing to do": DEMO,
        }
        assert {words[0] for words in long.values()} <= {*PLACES}
        commands = {"import typer, rich": SHORT, "import polars, ...": LONG}
        commands |= {name: [*GRISTMILL, *words] for name, words in {**short, **long}.items()}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(given.times + 1):
            for name, command in commands.items():
                seconds = cpu(command, folder, environment)
                if turn:  # the first warms the caches of files up
                    taken[name].append(seconds)
        best = {
            name: sum(sorted(times)[: (given.times + 1) // 2]) / ((given.times + 1) // 2)
            for name, times in taken.items()
        }
        for name, seconds in best.items():
            base = best["import typer, rich" if name in short or name == "import typer, rich" else "import polars, ..."]
            print(f"{name:24} {seconds:6.3f} s  {seconds / base:5.2f} x  {seconds - base:+.3f} s")


if __name__ == "__main__":
    main()
