"""measure.next_labels: labels where they tell most, and an audit that knows what they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs.looking.op import who_asks
from operators.measure.next_labels import MeasureNextLabels, allocate, deviations
from operators.measure.verifier_audit import MeasureVerifierAudit
from schemas.contract import validate
from schemas.errors import BadInput
from schemas.measures import Label
from tests.benchmarks.next_labels import asked_for, by_lot, simulated, widths
from tests.commands import gristmill


def test_half_the_labels_do_for_the_same_interval() -> None:
    """A small part of tests.benchmarks.next_labels."""
    lot, asked = widths(simulated, by_lot, 400, 6), widths(simulated, asked_for, 200, 6)
    for metric in ("completeness", "soundness", "accuracy_corrected"):
        assert asked[metric][0] <= 1.03 * lot[metric][0]


def test_intervals_hold() -> None:
    found = widths(simulated, asked_for, 200, 20)
    assert min(held for _, held in found.values()) >= 0.8


def test_neyman_s_allocation() -> None:
    size, spread = np.array([1000.0, 1000.0, 500.0]), np.array([0.1, 0.3, 0.4])
    given = allocate(size, np.zeros(3), spread, 600)
    assert given.sum() == 600
    assert given == pytest.approx(600 * size * spread / (size * spread).sum(), abs=1.5)
    more = allocate(size, np.array([400.0, 0.0, 0.0]), spread, 100)
    assert more[0] == 0, "a stratum that has too many gets none"
    assert allocate(np.array([3.0, 100.0]), np.zeros(2), np.array([0.5, 0.5]), 50)[0] == 3, "no more than there are"


def test_what_matters_for_the_goal() -> None:
    """By hand: 100 accepted of which .8 are right, 100 rejected of which .2 are."""
    size, accepted = np.array([100.0, 100.0]), np.array([True, False])
    n, c = np.array([1e9, 1e9]), np.array([0.8e9, 0.2e9])
    s = 0.4  # sqrt(.8 * .2)
    assert deviations(size, n, c, accepted, "accuracy") == pytest.approx([s, s])
    assert deviations(size, n, c, accepted, "precision") == pytest.approx([2 * s, 0.0])
    assert deviations(size, n, c, accepted, "completeness") == pytest.approx([s * 0.2 / 0.5, s * 0.8 / 0.5])
    assert deviations(size, n, c, accepted, "soundness") == pytest.approx([s * 0.8 / 0.5, s * 0.2 / 0.5])
    assert deviations(size, n, c, accepted, "errors") == pytest.approx([s * np.hypot(0.2, 0.8) / 0.5] * 2)


def test_rounds_go_on_and_end() -> None:
    truth = simulated(0, problems=20, n=4)
    first = MeasureNextLabels(next=30).run(truth.verdicts.lazy())
    validate(first, Label, "test")
    assert len(first) == 30
    assert first["is_correct"].null_count() == 30
    told = first.with_columns(is_correct=pl.lit(True))
    second = MeasureNextLabels(next=100).run(truth.verdicts.lazy(), labels=told.lazy())
    assert len(second) == 50, "all that is left"
    assert second.join(first, on=["problem_key", "sample_index"]).is_empty()
    sizes = pl.concat([first, second]).group_by("stratum").agg(pl.len(), pl.col("stratum_size").first())
    assert (sizes["len"] == sizes["stratum_size"]).all()
    done = pl.concat([told, second.with_columns(is_correct=pl.lit(False))])
    with pytest.raises(BadInput, match="all 80 samples"):
        MeasureNextLabels().run(truth.verdicts.lazy(), labels=done.lazy())


def test_all_labels_are_the_truth() -> None:
    truth = simulated(1, problems=30, n=4)
    found = {row["metric"]: row for row in asked_for(truth, 120, 0).iter_rows(named=True)}
    for metric, value in truth.values.items():
        assert found[metric]["value"] == pytest.approx(value)


def test_scores_make_the_strata_where_there_are_some_and_texts_are_shown() -> None:
    truth = simulated(2, problems=20, n=6)
    key = truth.verdicts.select("problem_key", "sample_index")
    scores = key.with_columns(scorer=pl.lit("s"), score=pl.int_range(pl.len()).cast(pl.Float64))
    samples = key.with_columns(problem_id="problem_key", completion=pl.lit("text"))
    about = truth.verdicts.select("problem_key").unique().with_columns(
        problem_id="problem_key", prompt=pl.lit("asked"), answer=pl.lit("7")
    )  # fmt: skip
    found = MeasureNextLabels(next=200).run(
        truth.verdicts.lazy(), scores=scores.lazy(), samples=samples.lazy(), problems=about.lazy()
    )
    assert ({*found["completion"]}, {*found["prompt"]}) == ({"text"}, {"asked"})
    ranked = found.join(scores, on=["problem_key", "sample_index"]).filter(accepted=True)
    ends = ranked.group_by("stratum").agg(pl.col("score").min().alias("low"), pl.col("score").max().alias("high"))
    assert (ends.sort("stratum")["high"][:-1] < ends.sort("stratum")["low"][1:]).all()


def test_an_audit_needs_one_or_the_other() -> None:
    with pytest.raises(BadInput, match="'reference', or 'labels'"):
        MeasureVerifierAudit().run(simulated(0, 5, 4).verdicts.lazy())


def test_an_audit_asks_for_its_next_labels_and_reads_them(tmp_path: Path) -> None:
    truth = simulated(3, problems=40, n=4)
    verdicts = tmp_path / "weak.parquet"
    truth.verdicts.write_parquet(verdicts)

    def op(name: str, out: str, *more: str) -> int:
        return gristmill("op", name, "--in", f"verdicts={verdicts}", "--out", out, *more, cwd=tmp_path).returncode

    assert op("measure.verifier_audit", "r1.jsonl", "--next", "30", "--set", "seed=1") == 0
    asked = pl.read_ndjson(tmp_path / "r1.jsonl")
    assert len(asked) == 30 and asked["is_correct"].null_count() == 30
    key = ["problem_key", "sample_index"]
    known = asked.drop("is_correct").join(truth.right, on=key)
    known.write_ndjson(tmp_path / "r1.jsonl")
    labels = ("--in", "labels=r1.jsonl")
    assert op("measure.verifier_audit", "audit.parquet", *labels) == 0
    found = pl.read_parquet(tmp_path / "audit.parquet").filter(metric="completeness")
    assert found["n"].to_list() == [30]
    assert op("measure.verifier_audit", "r2.jsonl", "--next", "30", *labels) == 0
    assert pl.read_ndjson(tmp_path / "r2.jsonl").join(asked, on=key).is_empty(), "a round asks for others"
    assert who_asks("measure.estimate") == "measure.next_labels"
    with pytest.raises(BadInput, match="reads no labels"):
        who_asks("measure.pass_at_k")
