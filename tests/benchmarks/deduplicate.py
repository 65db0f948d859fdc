"""Near-duplicates among a million traces: ours against datasketch's MinHashLSH, in one run.

    pip install datasketch
    python -m tests.benchmarks.deduplicate --rows 1000000 --reference 20000

Traces are made up: words drawn by Zipf's law, a tenth of the rows copies with one word in fifty replaced. datasketch
has the same shingles, permutations and threshold, and is timed on fewer rows; both speeds are per row.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import polars as pl

from operators.overlap.deduplicate import SynthesizeDeduplicate
from operators.overlap.shingles import normalised, words

WORDS = 80
VOCABULARY = 20_000
PLANTED = 0.1


def traces(rows: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return made-up training rows, and which are copies of the row in the other half of the set."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{number:x}" for number in range(VOCABULARY)])
    drawn = np.minimum(rng.zipf(1.3, size=(rows, WORDS)) - 1, VOCABULARY - 1).astype(np.int32)
    drawn += rng.integers(0, 400, size=drawn.shape, dtype=np.int32)
    drawn %= VOCABULARY
    copies = np.zeros(rows, bool)
    half = rows // 2
    copies[half:] = rng.random(rows - half) < PLANTED
    some = np.flatnonzero(copies)
    near = drawn[some - half].copy()
    changed = rng.random(near.shape) < 0.02
    near[changed] = rng.integers(0, VOCABULARY, int(changed.sum()))
    drawn[some] = near
    blocks = [
        pl.Series([" ".join(line) for line in vocabulary[drawn[at : at + 50_000]].tolist()])
        for at in range(0, rows, 50_000)
    ]
    frame = pl.DataFrame({"text": pl.concat(blocks)})
    turn = pl.concat_list(pl.struct(pl.lit("assistant").alias("role"), pl.col("text").alias("content")))
    key = pl.int_range(pl.len()).cast(pl.String).str.zfill(9)
    table = frame.select(
        problem_key=key,
        sample_index=pl.lit(0, pl.Int64),
        problem_id=key,
        messages=turn,
        completion_tokens=pl.lit(WORDS, pl.Int64),
        score=pl.lit(1.0),
    )
    return table, copies


def datasketch(texts: pl.Series, operator: SynthesizeDeduplicate) -> np.ndarray:
    """Return which texts have an earlier near-duplicate by datasketch."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=operator.threshold, num_perm=operator.permutations)
    found = np.zeros(len(texts), bool)
    lists = pl.DataFrame({"text": texts}).select(words(normalised(pl.col("text")), symbols=True)).to_series()
    for number, said in enumerate(lists):
        told = said.to_list()
        shingles = {" ".join(told[at : at + operator.ngram]).encode() for at in range(len(told) - operator.ngram + 1)}
        sketch = MinHash(num_perm=operator.permutations)
        sketch.update_batch(shingles)
        found[number] = bool(index.query(sketch))
        index.insert(number, sketch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reference", type=int, default=20_000, help="rows for datasketch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    operator = SynthesizeDeduplicate()
    table, copies = traces(arguments.rows, arguments.seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = operator.run(table.lazy())
    ours = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    dropped = ~found["kept"].to_numpy()
    right = int((dropped & copies).sum())
    print(f"gristmill: {arguments.rows:,} rows in {ours:.1f} s ({1e6 * ours / arguments.rows:.1f} us a row)")
    print(f"  peak memory grew by {grown:,.0f} MiB beyond the rows themselves")
    shares = f"precision {right / max(1, dropped.sum()):.4f}, recall {right / max(1, copies.sum()):.4f}"
    print(f"  {shares} of {copies.sum():,}")
    small, copied = traces(arguments.reference, arguments.seed)
    texts = small["messages"].list.first().struct.field("content")
    began = time.perf_counter()
    theirs = datasketch(texts, operator)
    took = time.perf_counter() - began
    caught = int((theirs & copied).sum())
    print(f"datasketch: {arguments.reference:,} rows in {took:.1f} s ({1e6 * took / arguments.reference:.1f} us a row)")
    print(f"  precision {caught / max(1, theirs.sum()):.4f}, recall {caught / max(1, copied.sum()):.4f}")
    print(f"a row takes datasketch {took / arguments.reference / (ours / arguments.rows):.1f} times as long")


if __name__ == "__main__":
    main()
