"""How long loading takes: ``python -m tests.benchmarks.load [--rows 1000000] [--against FOLDER]``.

The same rows as JSONL, CSV and Parquet are read, normalised and keyed. With ``--against`` a second checkout (or an
unpacked release) loads them too, in turns with this one, each in a process of its own, so that what else the machine
does falls on both alike; the ratio of the medians is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

PROGRAM = """
import sys, time
from operators.load import Load
began = time.process_time()
problems = Load(source=sys.argv[1]).run()
print(len(problems), time.process_time() - began, problems["problem_key"].sort().hash().sum())
"""


def write(folder: Path, rows: int) -> list[Path]:
    """Write the rows in the three kinds of files."""
    number = pl.int_range(rows, eager=True)
    table = pl.DataFrame(
        {
            "id": [f"train-{i:07d}" for i in range(rows)],
            "question": [f"{i} pears at \${i % 97}.{i % 89:02d}.\nHow much is \"that\"?" for i in range(rows)],
            "answer": (number * 7 % 1009).cast(pl.String),
            "level": number % 5,
            "subject": [("algebra", "geometry", "counting")[i % 3] for i in range(rows)],
        }
    )  # fmt: skip
    table.write_ndjson(folder / "rows.jsonl")
    table.write_csv(folder / "rows.csv")
    table.write_parquet(folder / "rows.parquet")
    with (folder / "messages.jsonl").open("w") as file:
        for row in table.head(rows // 4).iter_rows(named=True):
            turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": row["question"]}]
            file.write(json.dumps({"id": row["id"], "messages": turns, "answer": row["answer"]}) + "\n")
    return [folder / name for name in ("rows.jsonl", "rows.csv", "rows.parquet", "messages.jsonl")]


def once(checkout: Path, source: Path) -> tuple[float, str]:
    """Load ``source`` with the code of ``checkout``; return the processor seconds and what was loaded, in short."""
    command = [sys.executable, "-c", PROGRAM, str(source)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    rows, seconds, keys = done.stdout.split()
    return float(seconds), f"{rows} rows, keys {keys}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--data", type=Path, help="where the files are kept; by default they are made and removed")
    asked = parser.parse_args()
    here = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as made:
        folder = asked.data or Path(made)
        checkouts = {"here": here, **({"there": asked.against.resolve()} if asked.against else {})}
        for source in write(folder, asked.rows):
            seconds: dict[str, list[float]] = {name: [] for name in checkouts}
            loaded: dict[str, str] = {}
            for _ in range(asked.rounds):
                for name, checkout in checkouts.items():
                    spent, loaded[name] = once(checkout, source)
                    seconds[name].append(spent)
            middle = {name: statistics.median(values) for name, values in seconds.items()}
            text = ", ".join(f"{name} {value:.2f} s" for name, value in middle.items())
            if asked.against:
                text += (
                    f", ratio {middle['here'] / middle['there']:.2f}, equal problems: {len(set(loaded.values())) == 1}"
                )
            print(f"{source.name}: {text}", flush=True)


if __name__ == "__main__":
    main()
