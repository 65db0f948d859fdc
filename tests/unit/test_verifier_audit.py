"""measure.verifier_audit: against numbers of the paper, and against what simulations were made from."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from operators.measure.flaws import best_tries, ceiling, reward, tasks
from operators.measure.verifier_audit import MeasureVerifierAudit
from schemas.contract import validate
from schemas.errors import BadInput
from schemas.measures import VerifierAudit


@pytest.mark.parametrize(
    ("wrong", "best", "value"), [(-0.7, 3, 0.5246), (-1, 2, 0.4724), (-2, 1, 0.3388), (-0.1, 81, 0.6879)]
)
def test_the_paper_s_numbers(wrong: float, best: int, value: float) -> None:
    given = tasks((0.58, 0.42), (0.87, 0.13), completeness=1.0, soundness=0.75)
    found, reached = best_tries(given, 1.0, wrong)
    assert found == best
    assert reached == pytest.approx(value, abs=5e-5)


def test_where_no_try_is_worth_it() -> None:
    assert best_tries(tasks([1.0], [0.1], 1.0, 0.2), 1.0, -5.0) == (0, 0.0)


def test_reward_by_simulation() -> None:
    given = tasks((0.3, 0.7), (0.8, 0.2), completeness=0.9, soundness=0.6)
    rng = np.random.default_rng(0)
    tasks_drawn = rng.choice([0.8, 0.2], size=200_000, p=[0.3, 0.7])
    total, done = np.zeros(200_000), np.zeros(200_000, dtype=bool)
    for _ in range(4):
        right = rng.random(200_000) < tasks_drawn
        accepted = ~done & np.where(right, rng.random(200_000) < 0.9, rng.random(200_000) < 0.4)
        total += accepted * np.where(right, 1.0, -0.5)
        done |= accepted
    assert reward(given, 4, 1.0, -0.5)[4] == pytest.approx(total.mean(), abs=0.01)


def test_ceiling_of_a_perfect_and_of_a_blind_verifier() -> None:
    assert ceiling(tasks([1, 1], [0.2, 0.6], 1.0, 1.0)) == 1.0
    assert ceiling(tasks([1, 1], [0.2, 0.6], 0.5, 0.5)) == pytest.approx(0.4)


def simulated(
    problems: int, n: int, complete: float, sound: float, known: int, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame, float]:
    rng = np.random.default_rng(seed)
    rates = rng.beta(2, 3, problems)
    right = rng.random((problems, n)) < rates[:, None]
    accepted = np.where(right, rng.random((problems, n)) < complete, rng.random((problems, n)) > sound)
    index = {
        "problem_key": np.repeat([f"p{i}" for i in range(problems)], n),
        "sample_index": np.tile(np.arange(n), problems),
    }
    weak = pl.DataFrame({**index, "verifier": "weak", "is_correct": accepted.ravel()})
    strong = pl.DataFrame({**index, "verifier": "strong", "is_correct": right.ravel()})
    return weak, strong.filter(pl.col("sample_index") < known), float(right.mean())


def audit(weak: pl.DataFrame, strong: pl.DataFrame, **settings: float) -> pl.DataFrame:
    found = MeasureVerifierAudit(**settings).run(weak.lazy(), strong.lazy())  # type: ignore[arg-type]
    validate(found, VerifierAudit, "test")
    return found


def test_errors_and_accuracy_are_recovered() -> None:
    weak, strong, truth = simulated(150, 40, complete=0.6, sound=0.95, known=8)
    rows = {row["metric"]: row for row in audit(weak, strong).iter_rows(named=True)}
    for name, value in (("completeness", 0.6), ("soundness", 0.95)):
        assert rows[name]["low"] < value < rows[name]["high"]
        assert rows[name]["value"] == pytest.approx(value, abs=0.05)
    corrected = rows["accuracy_corrected"]
    assert corrected["low"] < truth < corrected["high"]
    assert abs(corrected["value"] - truth) < abs(rows["accuracy_judged"]["value"] - truth)
    assert rows["accuracy_judged"]["n"] == 150 * 40
    assert rows["completeness"]["n"] + rows["soundness"]["n"] == 150 * 8
    assert rows["best_tries"]["value"] >= 1


def test_intervals_cover() -> None:
    """The corrected accuracy's 95% interval holds the truth in most of 40 simulations."""
    held = 0
    for seed in range(40):
        weak, strong, truth = simulated(60, 20, 0.8, 0.85, known=6, seed=seed)
        corrected = audit(weak, strong, bootstrap=100).filter(pl.col("metric") == "accuracy_corrected")
        held += corrected["low"][0] <= truth <= corrected["high"][0]
    assert held >= 34


def test_intervals_are_about_problems_like_these() -> None:
    """With many samples of each problem the luck of the problems is what is left, and a binomial doesn't see it."""
    held, of = {"accuracy_corrected": 0, "accuracy_judged": 0, "completeness": 0}, 40
    for seed in range(of):
        weak, strong, _ = simulated(25, 60, 0.8, 0.85, known=20, seed=seed)
        rows = {row["metric"]: row for row in audit(weak, strong, bootstrap=200).iter_rows(named=True)}
        truth = {"accuracy_corrected": 0.4, "accuracy_judged": 0.4 * 0.8 + 0.6 * 0.15, "completeness": 0.8}
        for metric, value in truth.items():
            held[metric] += rows[metric]["low"] <= value <= rows[metric]["high"]
            assert "problems like these 25" in rows[metric]["note"]
    assert min(held.values()) >= 0.87 * of, held


def test_the_prior_is_shown_to_matter_little_with_much_data() -> None:
    weak, strong, _ = simulated(150, 40, 0.85, 0.9, known=20)
    corrected = audit(weak, strong).filter(pl.col("metric") == "accuracy_corrected")
    assert corrected["prior"].n_unique() == 3
    assert corrected["value"].max() - corrected["value"].min() < 0.01  # pyright: ignore


def test_an_interval_holds_its_share_where_all_labels_agree() -> None:
    verdicts, reference, _ = simulated(6, 8, complete=1.0, sound=1.0, known=48)
    strata = pl.when(pl.col("is_correct")).then(pl.lit("accepted")).otherwise(pl.lit("refused")).alias("stratum")
    labels = reference.select("problem_key", "sample_index", "is_correct", strata).with_columns(
        stratum_size=pl.len().over("stratum")
    )
    found = MeasureVerifierAudit(bootstrap=200).run(verdicts.lazy(), labels=labels.lazy())
    for name in ("completeness", "soundness", "precision"):
        [row] = found.filter(pl.col("metric") == name).iter_rows(named=True)
        assert row["low"] <= row["value"] == 1.0 <= row["high"], row


def test_what_can_not_be_audited() -> None:
    weak, strong, _ = simulated(5, 4, 0.8, 0.9, known=4)
    with pytest.raises(BadInput, match="no sample was judged by both"):
        audit(weak, strong.with_columns(problem_key=pl.lit("other")))
    with pytest.raises(BadInput, match="calls none wrong"):
        audit(weak, strong.with_columns(is_correct=pl.lit(True)))
