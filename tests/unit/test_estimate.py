"""measure.estimate: what cheap scores are worth is what it says, and its intervals hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from operators.measure.estimate import MeasureEstimate
from operators.numeric.control_variates import Sampled, estimate
from schemas.contract import conform, validate
from schemas.errors import BadInput
from schemas.measures import Estimate
from tests.benchmarks.estimate import Drawn, apart, groups_of, judged, simulated, simulations


@pytest.mark.parametrize("design", ["samples", "problems", "adaptive"])
def test_intervals_hold_and_the_gain_is_what_is_said(design: str) -> None:
    """A small part of tests.benchmarks.estimate, so chance has more room."""
    found = simulations(design, times=150)
    for result in found:
        assert result.cover >= 0.9
        assert result.same_cover >= 0.9
        assert result.same_said == pytest.approx(result.same_seen, rel=0.35)
        assert result.same_said > 1.5
    assert np.mean([result.to_apart for result in found]) <= 1.05


def test_a_few_rare_samples_that_make_the_error_widen_the_interval() -> None:
    """Cheap scores tell all but one verdict in 30; how large the error is, a few samples say."""
    held: list[bool] = []
    wider: list[float] = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        cheap = (rng.random((400, 1)) < 0.2).astype(np.float64)
        y = np.where(rng.random((400, 1)) < 1 / 30, 1.0, cheap)
        drawn = Drawn(y, cheap[..., None], np.zeros_like(y, dtype=np.bool_))
        found = estimate(judged(drawn, "samples", 0.3, rng), np.ones((400, 1), dtype=np.bool_), 0)[0]
        wide = stats.t.ppf(0.975, found.same_freedom)
        held.append(abs(found.value - y.mean()) < wide * found.same_error)
        wider.append(wide / stats.t.ppf(0.975, found.plain_freedom))
    assert np.mean(held) >= 0.88
    assert np.mean(wider) > 1.1


def test_nothing_cheap_costs_nothing() -> None:
    ratios: list[float] = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn = simulated(150, 6, rng)
        noise = drawn._replace(cheap=rng.normal(size=drawn.cheap.shape))
        found = estimate(judged(noise, "samples", 0.2, rng), np.ones((900, 1), dtype=np.bool_), 0)[0]
        ratios.append((found.plain_same_error / found.same_error) ** 2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)


def test_a_score_that_means_the_opposite_in_a_group_is_no_worse_than_apart() -> None:
    """What predicts right samples of easy problems predicts wrong ones of hard ones."""
    together: list[float] = []
    alone: list[float] = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn = simulated(200, 6, rng)
        drawn = drawn._replace(cheap=np.where(drawn.hard[..., None], -drawn.cheap, drawn.cheap))
        sampled, groups = judged(drawn, "samples", 0.25, rng), groups_of(drawn)
        found = estimate(sampled, groups, 0)
        for number in (1, 2):
            truth = drawn.y.ravel()[groups[:, number]].mean()
            together.append(found[number].value - truth)
            alone.append(apart(sampled, groups[:, number]).value - truth)
    assert np.var(together) <= 1.05 * np.var(alone)


def test_everything_judged_is_the_mean() -> None:
    y = np.array([1.0, 0.0, 1.0, 1.0] * 10)
    all_of = np.ones(40, dtype=np.bool_)
    sampled = Sampled(y, all_of, np.ones(40), np.arange(40.0)[:, None], np.arange(40) // 4, False)
    found = estimate(sampled, all_of[:, None], 0)[0]
    assert found.value == pytest.approx(0.75)
    assert found.same_error == 0.0


def tables(share: float = 0.25, problems: int = 120, n: int = 6) -> dict[str, pl.DataFrame]:
    """Return tables of simulated samples, as files have them."""
    rng = np.random.default_rng(3)
    drawn = simulated(problems, n, rng)
    key = {
        "problem_key": [f"p{i // n:03}" for i in range(problems * n)],
        "sample_index": [i % n for i in range(problems * n)],
    }
    right = drawn.y.ravel() == 1
    tokens = rng.integers(20, 400, problems * n)
    samples = pl.DataFrame(
        {
            **key,
            "mean_logprob": drawn.cheap[..., 0].ravel(),
            "completion_tokens": tokens,
            "finish_reason": "stop",
            "status": "ok",
        }
    )
    said = np.where(right, "7", [str(number) for number in rng.integers(0, 5, problems * n)])
    cheap = pl.DataFrame({**key, "is_correct": drawn.cheap[..., 1].ravel() == 1, "predicted_answer": said})
    verdicts = pl.DataFrame({**key, "is_correct": right}).filter(pl.Series(rng.random(problems * n) < share))
    levels = [f'{{"level": {1 + number % 2}}}' for number in range(problems)]
    about = pl.DataFrame(
        {"problem_key": [f"p{i:03}" for i in range(problems)], "task_type": "math", "metadata": levels}
    )
    return {"samples": samples, "verdicts": verdicts, "cheap": cheap, "problems": about}


def run(given: dict[str, pl.DataFrame], **settings: object) -> pl.DataFrame:
    operator = MeasureEstimate(**settings)  # type: ignore[arg-type]
    ready = {name: conform(table, operator.inputs[name], name).lazy() for name, table in given.items()}
    return validate(operator.run(**ready), Estimate, "test")


def test_the_operator_s_rows() -> None:
    given = tables()
    found = run(given, by=("length", "agreement", "level"))
    assert found["expectation"].to_list() == [
        "agreement=common", "agreement=rare", "all", *(f"length={n}" for n in ("long", "medium", "short")),
        "level=1", "level=2",
    ]  # fmt: skip
    row = found.row(2, named=True)
    assert row["low"] < row["value"] < row["high"]
    assert row["n_samples"] == 720
    assert row["n_judged"] == len(given["verdicts"])
    assert row["same_gain"] > 1.5
    assert row["effective"] == pytest.approx(row["n_judged"] * row["same_gain"])
    assert row["same_high"] - row["same_low"] < row["high"] - row["low"] < row["plain_high"] - row["plain_low"]
    plain = run({name: given[name] for name in ("samples", "verdicts")} | {
        "samples": given["samples"].with_columns(mean_logprob=None)
    })  # fmt: skip
    assert plain["same_gain"][0] == pytest.approx(1.0, abs=0.1)


def test_pieces_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tables()
    whole = run(given, by=["length", "level"])
    monkeypatch.setattr(MeasureEstimate, "piece_rows", 300)
    assert run(given, by=["length", "level"]).equals(whole)


def test_labels_count_by_how_they_were_chosen() -> None:
    """A stratum of wrong samples is labelled three times as densely: without weights the mean would be far too low."""
    given = tables()
    truth = given["cheap"].join(given["samples"], on=["problem_key", "sample_index"])
    rng = np.random.default_rng(0)
    drawn = simulated(120, 6, np.random.default_rng(3)).y.ravel() == 1
    chosen = rng.random(len(truth)) < np.where(drawn, 0.2, 0.6)
    stratum = pl.Series("stratum", np.where(drawn, "r", "w"))
    labels = given["samples"].select("problem_key", "sample_index").with_columns(stratum, is_correct=pl.Series(drawn))
    labels = labels.with_columns(stratum_size=pl.len().over("stratum")).filter(pl.Series(chosen))
    found = run({"samples": given["samples"], "labels": labels})
    assert labels["is_correct"].mean() < drawn.mean() - 0.15
    assert found["value"][0] == pytest.approx(drawn.mean(), abs=0.02)


def test_what_can_not_be_estimated() -> None:
    given = tables()
    with pytest.raises(BadInput, match="interval needs at least 20"):
        run(given | {"verdicts": given["verdicts"].head(5)})
    with pytest.raises(BadInput, match="no problem says its colour"):
        run(given, by=["colour"])
    with pytest.raises(BadInput, match="'verdicts' or 'labels'"):
        run({"samples": given["samples"]})


@pytest.mark.parametrize("right", [True, False])
def test_all_right_so_far_is_not_certainty(right: bool) -> None:
    """What may be and not be seen: 1 - .025^(1/n), n being problems, or samples where these very ones are meant."""
    given = tables(share=0.5, problems=40, n=3)
    given["verdicts"] = given["verdicts"].with_columns(is_correct=pl.lit(right))
    (row,) = run(given).to_dicts()
    problems = given["verdicts"]["problem_key"].n_unique()
    seen = len(given["verdicts"])
    off = abs(float(right) - np.array([row["low" if right else "high"], row["same_low" if right else "same_high"]]))
    assert off[0] == pytest.approx(1 - 0.025 ** (1 / problems))
    assert off[1] == pytest.approx((1 - 0.025 ** (1 / seen)) * (1 - seen / 120))
    assert (row["gain"], row["same_gain"]) == (1.0, 1.0)


def test_one_problem_says_nothing_about_others() -> None:
    given = tables(problems=1, n=120)
    given["verdicts"] = given["verdicts"].head(40)
    (row,) = run(given).to_dicts()
    assert (row["low"], row["high"]) == (0.0, 1.0)
    assert row["same_high"] - row["same_low"] < 0.5


@pytest.mark.parametrize("odd", [float("nan"), float("-inf"), -1e308, None])
def test_a_likelihood_that_is_no_number_says_nothing(odd: float | None) -> None:
    given = tables()
    first = pl.int_range(pl.len()) == 0
    given["samples"] = given["samples"].with_columns(
        mean_logprob=pl.when(first).then(pl.lit(odd, pl.Float64)).otherwise("mean_logprob")
    )
    for row in run(given).to_dicts():
        assert 0.0 <= row["low"] < row["value"] < row["high"] <= 1.0
