"""Training rows looked through for the questions of a benchmark: seconds of CPU, memory, and what is found.

    python -m tests.benchmarks.decontaminate --rows 200000 --questions 10000

Rows are those of ``tests.benchmarks.deduplicate``: 80 words drawn by Zipf's law. Every hundredth quotes 20 words of a
question; the questions are drawn likewise, and a third of them end in a phrase of 14 words that is no leak.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from operators.overlap.decontaminate import SynthesizeDecontaminate
from tests.benchmarks.deduplicate import traces

PHRASE = " where m and n are relatively prime positive integers find the sum of them"


def planted(rows: int, count: int) -> tuple[pl.DataFrame, pl.Series, np.ndarray]:
    """Return rows, questions, and which rows quote one; every tenth row has the phrase."""
    texts, asked = (
        traces(size, seed)[0]["messages"].list.first().struct.field("content").to_list()
        for size, seed in ((rows, 1), (count, 2))
    )
    questions = [text + PHRASE if at % 3 == 0 else text for at, text in enumerate(asked)]
    for at in range(0, rows, 10):
        texts[at] += PHRASE
    quoting = np.zeros(rows, bool)
    for at in range(0, rows, 100):
        texts[at] += " " + " ".join(asked[at // 100 % count].split()[10:30])
        quoting[at] = True
    said = pl.concat_list(pl.struct(pl.lit("user").alias("role"), pl.col("text").alias("content")))
    key = pl.int_range(pl.len()).cast(pl.String).str.zfill(9)
    table = pl.DataFrame({"text": texts}).select(
        problem_key=key,
        sample_index=pl.lit(0, pl.Int64),
        problem_id=key,
        messages=said,
        completion_tokens=pl.lit(1, pl.Int64),
        score=pl.lit(1.0),
    )
    return table, pl.Series("question", questions), quoting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--questions", type=int, default=10_000)
    arguments = parser.parse_args()
    table, questions, quoting = planted(arguments.rows, arguments.questions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.parquet"
        questions.to_frame().write_parquet(path)
        operator = SynthesizeDecontaminate(benchmarks=(str(path),))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        found = operator.run(table.lazy())
        took = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    dropped = ~found["kept"].to_numpy()
    right = int((dropped & quoting).sum())
    each = 1e6 * took / len(table)
    print(f"{arguments.rows:,} rows, {arguments.questions:,} questions: {took:.1f} s of CPU ({each:.1f} us a row)")
    print(f"  peak memory grew by {grown:,.0f} MiB beyond the rows themselves")
    print(f"  precision {right / max(1, dropped.sum()):.4f}, recall {right / quoting.sum():.4f} of {quoting.sum():,}")


if __name__ == "__main__":
    main()
