"""Top-two answers: planted answers are found again, and what the operator makes of tables."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from operators.select.top_two import SelectTopTwo, top_two
from schemas.contract import conform, validate
from schemas.datasets import Answer
from schemas.errors import BadInput


def planted(seed: int, workers: int = 60, tasks: int = 300, k: int = 5, seen: float = 0.4) -> dict[str, np.ndarray]:
    """Answers as the model has them: reliable workers confuse g and h, unreliable ones guess."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, k, tasks)
    h = (g + rng.integers(1, k, tasks)) % k
    q = rng.uniform(0.55, 0.95, tasks)
    p = np.where(rng.random(workers) < 0.4, rng.uniform(0.7, 0.95, workers), rng.uniform(0.02, 0.2, workers))
    worker, task = np.nonzero(rng.random((workers, tasks)) < seen)
    guess = rng.random(len(task)) >= p[worker]
    label = np.where(rng.random(len(task)) < q[task], g[task], h[task])
    label = np.where(guess, rng.integers(0, k, len(task)), label)
    return {"worker": worker, "task": task, "label": label, "g": g, "h": h, "q": q}


@pytest.mark.parametrize("seed", range(3))
def test_workers_are_weighed_so_planted_answers_are_found(seed: int) -> None:
    data = planted(seed)
    found = top_two(data["worker"], data["task"], data["label"], 5)
    counts = np.zeros((300, 5), dtype=int)
    np.add.at(counts, (data["task"], data["label"]), 1)
    plain = (counts.argmax(axis=1) == data["g"]).mean()
    assert (found.first == data["g"]).mean() > max(0.8, plain + 0.01)
    right = (np.minimum(found.first, found.second) == np.minimum(data["g"], data["h"])) & (
        np.maximum(found.first, found.second) == np.maximum(data["g"], data["h"])
    )
    assert right.mean() > 0.7
    assert np.corrcoef(found.q, data["q"])[0, 1] > 0.2
    assert (found.first != found.second).all()


def test_labels_may_be_renamed() -> None:
    data = planted(5)
    permutation = np.array([3, 0, 4, 1, 2])
    found = top_two(data["worker"], data["task"], data["label"], 5)
    renamed = top_two(data["worker"], data["task"], permutation[data["label"]], 5)
    assert (permutation[found.first] == renamed.first).mean() > 0.97


def crowd(shift: int = 0) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    data = planted(1)
    table = pl.DataFrame(
        {
            "problem_id": [f"t{task:03d}" for task in data["task"]],
            "sample_index": data["worker"],
            "answer_class": data["label"] + shift,
            "status": ["ok"] * len(data["task"]),
        }
    )
    return table, data


def answers(table: pl.DataFrame, **fields: object) -> pl.DataFrame:
    operator = SelectTopTwo(**fields)
    verdicts = conform(table, operator.inputs["verdicts"], "test").with_columns(table["answer_class"])
    workers = conform(table, operator.inputs["samples"], "test") if "worker" in table.columns else None
    if operator.scope == "dataset":
        return validate(operator.run(verdicts.lazy(), None if workers is None else workers.lazy()), Answer, "test")
    return validate(operator.run(verdicts), Answer, "test")


@pytest.mark.parametrize("shift", [0, 1])
def test_one_row_a_problem_with_q_as_confidence(shift: int) -> None:
    table, data = crowd(shift)
    found = answers(table, worker="sample_index", labels=5)
    wanted = top_two(data["worker"], data["task"], data["label"], 5)
    assert found["answer_class"].to_list() == (wanted.first + shift).tolist()
    assert found["runner_up"].to_list() == [str(label) for label in wanted.second + shift]
    assert found["confidence"].to_list() == pytest.approx(wanted.q.tolist())
    assert (found["confidence"] + found["runner_up_confidence"]).to_list() == pytest.approx([1.0] * 300)


def test_the_last_of_a_workers_answers_counts() -> None:
    table, _ = crowd()
    wrong = table.with_columns((pl.col("answer_class") + 1) % 5)
    twice = answers(pl.concat([wrong, table]), worker="sample_index", labels=5)
    assert twice.drop("n_samples").equals(answers(table, worker="sample_index", labels=5).drop("n_samples"))


def test_workers_can_be_named_by_the_samples() -> None:
    table, _ = crowd()
    named = table.with_columns(
        pl.col("sample_index").cast(pl.String).alias("worker"), sample_index=pl.int_range(pl.len()).over("problem_id")
    )
    by_name = answers(named, worker="worker", labels=5)
    assert (
        by_name["answer_class"].to_list() == answers(table, worker="sample_index", labels=5)["answer_class"].to_list()
    )
    with pytest.raises(BadInput, match="must be 'sample_index', or 'worker'"):
        answers(table, worker="worker")
    with pytest.raises(BadInput, match="there is a label 4, but labels = 3"):
        answers(table, worker="sample_index", labels=3)


def test_one_configuration_needs_no_more_than_counts() -> None:
    """g and h are the two most frequent answers; p and q those that make the counts most likely."""
    table = pl.DataFrame(
        {
            "problem_id": ["p"] * 100,
            "sample_index": range(100),
            "answer_class": [0] * 50 + [1] * 30 + [2] * 8 + [3] * 6 + [4] * 6,
            "status": ["ok"] * 100,
        }
    )
    row = answers(table).row(0, named=True)
    assert (row["answer_class"], row["runner_up"]) == (0, "1")
    guessed = 0.2 / 3
    grid = np.linspace(0.501, 0.999, 2000)
    p = 1 - 5 * guessed
    likelihood = 50 * np.log(p * grid + guessed) + 30 * np.log(p * (1 - grid) + guessed)
    assert row["confidence"] == pytest.approx(grid[likelihood.argmax()], abs=1e-3)
    assert row["runner_up_confidence"] == pytest.approx(1 - row["confidence"])
