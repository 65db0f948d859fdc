"""What it takes to look at a root that has seen many runs: ``runs``, ``show``, ``gc --dry-run`` over 5,000 of them.

    python -m tests.benchmarks.looking --runs 5000
    python -m tests.benchmarks.looking --runs 5000 --code OTHER_CHECKOUT     # in turn with this one

One run is made by the local runner, and its folder and results are copied with other ids and times. Each measurement
is a process of its own, its start-up included: seconds by the wall and of the processor, the least of several.
``first`` is the first look at the root, which nobody has a catalogue of; the others come after it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from cluster.runners.local import LocalRunner
from schemas.manifest import RunManifest
from tests.support import run, scripted_pipeline, write_problems

HERE = Path(__file__).resolve().parents[2]
COMMANDS = {
    "first runs": ("runs",),
    "runs": ("runs",),
    "runs --json": ("runs", "--json"),
    "show": ("show", "latest"),
    "show --json": ("show", "latest", "--json"),
    "gc --dry-run": ("gc", "--dry-run", "--older-than", "0"),
    "version": ("--version",),
}


def make_root(folder: Path, count: int) -> Path:
    """Make a root with so many runs of one pipeline; each has results of its own beside stores that all share."""
    made = run(LocalRunner(), scripted_pipeline(write_problems(folder / "p.jsonl", 4), 3), folder / "root").manifest
    root = folder / "root"
    for number in range(1, count):
        began = made.started - timedelta(minutes=number)
        copy = made.model_copy(deep=True)
        copy.run_id = f"scripted-{began:%Y%m%d-%H%M%S}-{number:04x}"
        copy.started, copy.finished = began, began + timedelta(seconds=30)
        for record in copy.stages:
            if record.kind == "snapshot" and record.dataset != "problems":
                old, record.view_id = record.path, f"{number:032x}"
                record.path = f"{old.rpartition('/')[0]}/{record.view_id}"
                shutil.copytree(root / old, root / record.path)
        shutil.copytree(root / "runs" / made.run_id, root / "runs" / copy.run_id)
        written = copy.model_dump_json(indent=1).replace(made.run_id, copy.run_id)
        (root / "runs" / copy.run_id / "manifest.json").write_text(written)
        RunManifest.model_validate_json(written)
    return root


def look(code: Path, root: Path, words: Sequence[str]) -> tuple[float, float]:
    """Give one command; return its seconds by the wall and of the processor."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    more = [] if words[0] == "--version" else ["--root", str(root)]
    command = [sys.executable, "-P", "-m", "jobs.cli", *words, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=root)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5, help="of which the least counts")
    parser.add_argument("--code", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--keep", type=Path, help="make the root here, or take the one that is here")
    options = parser.parse_args()
    codes = [HERE] + ([options.code.resolve()] if options.code else [])
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        root = folder / "root" if (folder / "root").exists() else make_root(folder, options.runs)
        for name, words in COMMANDS.items():
            found: dict[Path, list[tuple[float, float]]] = {code: [] for code in codes}
            for _ in range(options.rounds):
                for code in codes:
                    if name.startswith("first"):
                        (root / "catalogue.sqlite").unlink(missing_ok=True)
                    found[code].append(look(code, root, words))
            for code, times in found.items():
                least = {"seconds": min(wall for wall, _ in times), "cpu_seconds": min(cpu for _, cpu in times)}
                print(json.dumps({"command": name, "code": str(code), "runs": options.runs, **least}), flush=True)


if __name__ == "__main__":
    main()
