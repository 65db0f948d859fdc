"""verify.math against the loop that people write: math-verify's ``verify(parse(gold), parse(completion))`` per sample.

    python -m tests.benchmarks.math_verify

20 problems x 10,000 samples with 150 distinct answers each: integers, decimals, fractions, radicals, expressions, pairs
and sets in LaTeX, inside sentences. Our time includes starting the processes. The loop is run on ``--share`` of the
samples and scaled, since the whole takes minutes; on these the verdicts must be the same.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import polars as pl

from cluster.tools.processes import ProcessWorkers
from operators.verify.math import VerifyMath

PROBLEMS, SAMPLES, DISTINCT = 20, 10_000, 150


def answers(problem: int) -> list[str]:
    """Return the distinct answers of a problem; the first is the right one."""
    rng = random.Random(problem)
    kinds = [
        lambda n: str(n),
        lambda n: f"{n}.{n % 10}5",
        lambda n: rf"\frac{{{n}}}{{{7 + n % 5}}}",
        lambda n: rf"{n}\sqrt{{{2 + n % 3}}}",
        lambda n: f"{n}x^2 + {n % 7 + 1}x",
        lambda n: f"({n}, {n + 1})",
        lambda n: rf"\{{{n}, {n + 2}\}}",
    ]
    found: list[str] = []
    while len(found) < DISTINCT:
        # most of what models answer is a plain number
        kind = kinds[problem % len(kinds)] if not found else rng.choice([*kinds[:3] * 3, *kinds])
        text = kind(rng.randint(2, 3000))
        if text not in found:
            found.append(text)
    return found


def data() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (samples, problems)."""
    rng = random.Random(0)
    rows: list[tuple[str, int, str]] = []
    golds: list[str] = []
    for problem in range(PROBLEMS):
        texts = answers(problem)
        golds.append(texts[0])
        weights = [DISTINCT / (rank + 1) for rank in range(DISTINCT)]
        drawn = texts + rng.choices(texts, weights, k=SAMPLES - DISTINCT)
        for index, text in enumerate(drawn):
            steps = " ".join(f"Step {step}: we get {step * index % 97}." for step in range(1, 6))
            rows.append((f"p{problem}", index, rf"{steps} So the answer is \boxed{{{text}}}."))
    samples = pl.DataFrame(rows, schema=["problem_key", "sample_index", "completion"], orient="row")
    problems = pl.DataFrame({"problem_key": [f"p{number}" for number in range(PROBLEMS)], "answer": golds})
    return samples.with_columns(problem_id="problem_key", status=pl.lit("ok")), problems


def loop(samples: pl.DataFrame, golds: dict[str, str]) -> tuple[float, list[bool]]:
    """Judge every sample by itself."""
    from math_verify import parse, verify

    began = time.perf_counter()
    found: list[bool] = []
    for key, text in samples.select("problem_key", "completion").iter_rows():
        gold, answer = parse(f"${golds[key]}$", parsing_timeout=None), parse(text, parsing_timeout=None)
        found.append(bool(verify(gold, answer, timeout_seconds=None)))
    return time.perf_counter() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.05, help="of the samples that the loop judges")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    samples, problems = data()
    part = samples.filter(pl.col("sample_index") < SAMPLES * options.share)
    golds = dict(problems.rows())
    ratios: list[float] = []
    for number in range(options.rounds):
        began = time.perf_counter()
        with ProcessWorkers(options.processes) as workers:
            verdicts = VerifyMath().run(samples, problems, workers)
        seconds = time.perf_counter() - began
        loop_seconds, expected = loop(part, golds)
        found = part.join(verdicts, on=["problem_key", "sample_index"], maintain_order="left")["is_correct"].to_list()
        differing = [row for row, one, other in zip(part.iter_rows(), found, expected, strict=True) if one != other]
        assert not differing, differing[:5]
        whole = loop_seconds * len(samples) / len(part)
        ratios.append(whole / seconds)
        print(
            f"round {number + 1}: {len(samples):,} samples in {seconds:.1f} s; the loop {loop_seconds:.1f} s for "
            f"{len(part):,} of them, {whole:.0f} s for all: {ratios[-1]:.0f} times; the same verdicts, "
            f"{sum(expected):,} right"
        )
    print(f"median {statistics.median(ratios):.0f} times [{min(ratios):.0f}, {max(ratios):.0f}]")


if __name__ == "__main__":
    main()
