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


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found != truth).mean())


def vote(data: dict[str, np.ndarray], k: int) -> np.ndarray:
    counts = np.random.default_rng(0).random((int(data["task"].max()) + 1, k)) / 10
    np.add.at(counts, (data["task"], data["label"]), 1)
    return counts.argmax(axis=1)


def assigned(rng: np.random.Generator, tasks: int, workers: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """``each`` different workers a task."""
    worker = np.concatenate([rng.choice(workers, each, replace=False) for _ in range(tasks)])
    return worker, np.repeat(np.arange(tasks), each)


def binary(seed: int, kind: str, tasks: int = 400, workers: int = 80, each: int = 5) -> dict[str, np.ndarray]:
    """Yes or no: workers who differ, who are all alike, who mostly say yes, or a truth that is mostly no."""
    rng = np.random.default_rng([seed, 7])
    g = (rng.random(tasks) < (0.15 if kind == "mostly no" else 0.5)).astype(int)
    worker, task = assigned(rng, tasks, workers, each)
    right = {"alike": np.full(workers, 0.7), "mostly no": np.full(workers, 0.75)}.get(kind, rng.beta(3, 1.5, workers))
    label = np.where(rng.random(len(task)) < right[worker], g[task], 1 - g[task])
    if kind == "yes-sayers":
        label = np.where(worker < 0.3 * workers, 1, label)
    return {"worker": worker, "task": task, "label": label, "g": g}


@pytest.mark.parametrize("kind", ["differ", "alike", "yes-sayers", "mostly no"])
def test_of_two_labels_it_is_never_clearly_worse_than_the_vote(kind: str) -> None:
    """Equal weights, or one-coin models, lose to the vote with some of these."""
    errors, votes, sure = [], [], []
    for seed in range(4):
        data = binary(seed, kind)
        found = top_two(data["worker"], data["task"], data["label"], 2)
        errors.append(error(found.first, data["g"]))
        votes.append(error(vote(data, 2), data["g"]))
        sure.append(found.q.mean())
        assert errors[-1] < votes[-1] + 1.96 * np.sqrt(errors[-1] * (1 - errors[-1]) / 400)
        assert (found.second == 1 - found.first).all()
    assert np.mean(errors) < np.mean(votes) + 0.01
    if kind in ("differ", "alike"):
        assert np.mean(sure) == pytest.approx(1 - np.mean(errors), abs=0.05)
    if kind == "differ":
        assert np.mean(errors) < np.mean(votes) - 0.02


def test_workers_who_are_alike_or_never_meet_get_the_weights_of_a_vote() -> None:
    """Six groups with tasks of their own: the spectrum of all labels shows one of them."""
    parts = []
    for group in range(6):
        rng = np.random.default_rng([group, 3])
        g = rng.integers(0, 4, 30)
        worker, task = assigned(rng, 30, 15, 8)
        h = (g + rng.integers(1, 4, 30)) % 4
        label = np.where(rng.random(240) < 0.7, np.where(rng.random(240) < 0.8, g[task], h[task]), 0)
        label = np.where(rng.random(240) < 0.2, rng.integers(0, 4, 240), label)
        parts.append({"worker": worker + 15 * group, "task": task + 30 * group, "label": label, "g": g})
    data = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = top_two(data["worker"], data["task"], data["label"], 4)
    assert error(found.first, data["g"]) < error(vote(data, 4), data["g"]) + 0.03


@pytest.mark.parametrize("k", [3, 5])
def test_who_always_gives_the_same_label_isnt_believed(k: int) -> None:
    rng = np.random.default_rng(k)
    g = rng.integers(0, k, 400)
    worker, task = assigned(rng, 400, 80, 6)
    label = np.where(rng.random(2400) < 0.6, g[task], rng.integers(0, k, 2400))
    label = np.where(worker < 24, 0, label)
    data = {"worker": worker, "task": task, "label": label}
    found = top_two(worker, task, label, k)
    assert error(found.first, g) < error(vote(data, k), g) - 0.05


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


def test_confidences_are_fitted_to_known_answers_or_marked() -> None:
    table, data = crowd()
    right = pl.Series(data["label"] == data["g"][data["task"]])
    assert answers(table, worker="sample_index", labels=5)["calibration"].unique().to_list() == ["uncalibrated"]
    for known in (60, 300):
        shown = table.with_columns(is_correct=pl.when(pl.Series(data["task"] < known)).then(right))
        found = answers(shown, worker="sample_index", labels=5)
        accuracy = 1 - error(found["answer_class"].to_numpy(), data["g"])
        assert found["calibration"].unique().to_list() == ["calibrated"]
        assert found["confidence"].mean() == pytest.approx(accuracy, abs=0.05 if known == 300 else 0.1)
        assert found["confidence_low"].mean() <= accuracy <= found["confidence_high"].mean()
        assert (found["confidence"] + found["runner_up_confidence"]).to_list() == pytest.approx([1.0] * 300)
    few = table.with_columns(is_correct=pl.when(pl.Series(data["task"] < 40)).then(right))
    assert answers(few, worker="sample_index", labels=5)["calibration"].unique().to_list() == ["uncalibrated"]


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


@pytest.mark.parametrize("yes", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("skill", [[0.75] * 5, [0.85] * 3, [0.8] * 2], ids=len)
def test_two_who_always_say_yes_make_it_no_worse_than_the_vote(skill: list[float], yes: float) -> None:
    """Whether yes is a habit or the truth can't always be told; where it can't, it's the vote."""
    gained = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = (rng.random(300) < yes).astype(int)
        labels = [np.where(rng.random(300) < p, truth, 1 - truth) for p in skill] + [np.ones(300, dtype=int)] * 2
        worker, task = (axis.ravel() for axis in np.indices((len(labels), 300)))
        found = top_two(worker, task, np.concatenate(labels), 2)
        share = np.mean(labels, axis=0)
        voted = np.where(share == 0.5, labels[0], share > 0.5)
        gained.append(error(voted, truth) - error(found.first, truth))
    assert min(gained) >= -0.02
    if yes == 0.5 and len(skill) > 2:
        assert np.mean(gained) > 0.03, "habits are seen through"


@pytest.mark.parametrize(("workers", "k"), [(3, 3), (4, 4), (5, 5), (3, 6), (6, 3)])
def test_ties_everywhere_are_an_answer_like_any_other(workers: int, k: int) -> None:
    """Each worker has a label of its own, the same for all tasks: no direction stands out."""
    worker, task = (axis.ravel() for axis in np.indices((workers, 4)))
    found = top_two(worker, task, worker % k, k)
    assert ((found.q >= 0.5) & (found.q < 1.0)).all() and (found.first != found.second).all()
