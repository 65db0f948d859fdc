"""Top-two answers and judges on labels by people, and on simulated ones: errors beside the majority's, and confidences.

    python -m tests.benchmarks.crowd --data DIR/crowd_labels

For each set: the error of the majority, of select.top_two (every worker's label), and of select.judges (every worker
judges the answers of all workers to its tasks); with no known answers, with 100, and with all. Beside each error stands
the mean confidence, its interval where it was fitted, and the mark. No error should pass the majority's by more than
1.96 standard errors, no fitted confidence should be off by more than .05 where many answers are known.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from operators.select.judges import SelectJudges
from operators.select.majority import MajorityVote
from operators.select.top_two import SelectTopTwo
from schemas.contract import conform

KNOWN = (0, 100, 10**9)
JUDGED = 1_000
"""Tasks that judges are shown: every worker judges every answer to its tasks, which is many rows."""


@dataclass(frozen=True)
class Crowd:
    """Labels, one answer each, and the truth of each task: problem_id, worker, label; truth by problem_id."""

    labels: pl.DataFrame
    truth: pl.DataFrame


def read(folder: Path, name: str, columns: list[str]) -> Crowd:
    """Read a set: the last of several labels of a worker for a task counts."""
    rows = np.loadtxt(folder / f"{name}.txt", dtype=np.int64)
    table = pl.DataFrame(rows, schema=columns).unique(["worker", "task"], keep="last", maintain_order=True)
    truth = pl.DataFrame(np.loadtxt(folder / f"{name}_truth.txt", dtype=np.int64), schema=["task", "truth"])
    truth = truth.unique("task", keep="last", maintain_order=True)
    return _named(table.join(truth.select("task"), on="task", how="semi"), truth)


def simulated(kind: str, seed: int, tasks: int = 800, workers: int = 160, each: int = 8) -> Crowd:
    """Return labels of a kind: how many labels there are, how workers differ, and which habits they have."""
    rng = np.random.default_rng(seed)
    k = 2 if "two" in kind else 4
    shares = np.full(k, 1 / k) if "skewed" not in kind else np.array([0.85, *[0.15 / (k - 1)] * (k - 1)])
    g = rng.choice(k, tasks, p=shares)
    h = (g + rng.integers(1, k, tasks)) % k
    able = np.full(workers, 0.5) if "alike" in kind else rng.beta(2, 1.5, workers)
    block = np.arange(tasks) * 8 // tasks if "blocks" in kind else np.zeros(tasks, dtype=int)
    size = workers // 8 if "blocks" in kind else workers
    worker = np.concatenate([block[task] * size + rng.choice(size, each, replace=False) for task in range(tasks)])
    task = np.repeat(np.arange(tasks), each)
    label = np.where(rng.random(len(task)) < rng.uniform(0.7, 1.0, tasks)[task], g[task], h[task])
    label = np.where(rng.random(len(task)) < able[worker], label, rng.integers(0, k, len(task)))
    if "habit" in kind:
        label = np.where(worker % 10 < 3, 0, label)
    table = pl.DataFrame({"worker": worker, "task": task, "label": label})
    return _named(table, pl.DataFrame({"task": np.arange(tasks), "truth": g}))


def _named(table: pl.DataFrame, truth: pl.DataFrame) -> Crowd:
    name = pl.format("t{}", pl.col("task").cast(pl.String).str.zfill(6)).alias("problem_id")
    return Crowd(table.select(name, "worker", "label"), truth.select(name, "truth").sort("problem_id"))


def verdicts(crowd: Crowd, known: int) -> pl.DataFrame:
    """Return one row per label; whether it is right is told of ``known`` tasks spread over all."""
    told = crowd.truth.gather_every(max(1, len(crowd.truth) // known)).head(known) if known else crowd.truth.head(0)
    rows = crowd.labels.join(told, on="problem_id", how="left").sort("problem_id", "worker")
    return rows.select(
        "problem_id",
        pl.col("worker").alias("sample_index"),
        pl.col("label").cast(pl.String).alias("predicted_answer"),
        answer_class=pl.col("label"),
        is_correct=pl.col("label") == pl.col("truth"),
        status=pl.lit("ok"),
    )


def judged(crowd: Crowd, known: int) -> pl.DataFrame:
    """Return the verdict of every worker on every answer to its tasks, and the reference's on those of known tasks."""
    rows = verdicts(crowd, known)
    judges = rows.select("problem_id", verifier=pl.format("worker {}", "sample_index"), says="answer_class")
    asked = rows.join(judges, on="problem_id").with_columns(is_correct=pl.col("answer_class") == pl.col("says"))
    reference = rows.filter(pl.col("is_correct").is_not_null()).with_columns(verifier=pl.lit("reference"))
    return pl.concat([asked.drop("says"), reference], how="diagonal")


def line(name: str, method: str, known: int, found: pl.DataFrame, truth: pl.DataFrame, vote: float) -> str:
    """Return the printed line of one method on one set."""
    both = found.join(truth, left_on="problem_key", right_on="problem_id")
    wrong = (both["answer"] != both["truth"].cast(pl.String)).fill_null(True).mean()
    error = float(wrong or 0.0)  # type: ignore[arg-type]
    sure = [float(found[c].mean() or 0.0) for c in ("confidence", "confidence_low", "confidence_high")]  # type: ignore[arg-type]
    half = 1.96 * np.sqrt(error * (1 - error) / len(both))
    fitted = found["calibration"][0] == "calibrated"
    told = f"[{sure[1]:.3f}, {sure[2]:.3f}]" if fitted else str(found["calibration"][0] or "")
    worse = "WORSE" if error > vote + half else ""
    held = sure[1] <= 1 - error <= sure[2] and (known < 500 or abs(sure[0] - 1 + error) < 0.05)
    off = "OFF" if fitted and not held else ""
    row = f"{name:26s}{method:10s}{min(known, len(truth)):6d}{vote:10.3f}{error:8.3f}{half:8.3f}"
    return f"{row}{sure[0]:12.3f}  {told:16s}{worse} {off}"


def run(name: str, crowd: Crowd) -> None:
    """Print the lines of one set."""
    plain = conform(verdicts(crowd, 10**9), MajorityVote().inputs["verdicts"], name)
    answers = MajorityVote().run(plain)
    vote = 1.0 - float(answers["is_correct"].mean() or 0.0)  # type: ignore[arg-type]
    for known in KNOWN:
        table = verdicts(crowd, known)
        operator = SelectTopTwo(worker="sample_index")
        given = conform(table, operator.inputs["verdicts"], name).with_columns(table["answer_class"])
        print(line(name, "top_two", known, operator.run(given.lazy()), crowd.truth, vote), flush=True)
    few = crowd.truth.head(JUDGED)
    some = Crowd(crowd.labels.join(few, on="problem_id", how="semi"), few)
    for known in KNOWN:
        judges = SelectJudges(reference="reference" if known else "")
        given = conform(judged(some, known), judges.inputs["verdicts"], name)
        print(line(name, "judges", known, judges.run(given.lazy()), some.truth, vote), flush=True)


def main() -> None:
    """Print the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="The folder with color.txt, dog.txt and their truths.")
    given: Any = parser.parse_args()
    heads = f"{'labels':26s}{'method':10s}{'known':>6s}{'majority':>10s}{'error':>8s}{'+-':>8s}"
    print(f"{heads}{'confidence':>12s}  interval")
    if given.data:
        run("color", read(given.data, "color", ["worker", "task", "label"]))
        run("dog", read(given.data, "dog", ["task", "worker", "label"]))
    for kind in ("", "alike", "habit", "blocks", "skewed"):
        for labels in ("two", "four"):
            run(f"{labels} labels, {kind or 'differ'}", simulated(f"{labels} {kind}", 1))


if __name__ == "__main__":
    main()
