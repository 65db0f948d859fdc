"""Texts that are read a few at a time: what is chosen doesn't depend on how many, and others aren't held."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from cluster.storage.ranges import restrict
from cluster.storage.root import Root
from cluster.storage.slices import Slice
from cluster.working.work import Task
from operators import texts
from operators.base import Operator
from operators.synthesize.choose import SynthesizeChoose
from operators.synthesize.preference import SynthesizePreference
from operators.synthesize.sft import SynthesizeSft
from schemas.contract import conform
from schemas.errors import DamagedFile

PROBLEMS = conform(
    pl.DataFrame({"problem_id": ["a", "b", "c"], "prompt": ["1 + 1?", "1 + 2?", "2 + 2?"]}),
    SynthesizeSft.inputs["problems"],
    "problems",
)


def drawn() -> pl.DataFrame:
    """Samples of three problems in no order, some of them alike, some of no use."""
    rows = [
        {
            **{"problem_id": key, "problem_key": key, "sample_index": index, "mean_logprob": -(index * 7 % 11) / 10},
            **{"completion": f"Word{index % 13} by word {key} we come to {index % 3}.", "status": "ok", "run_id": "r"},
            **{"finish_reason": "length" if index % 10 == 9 else "stop", "completion_tokens": 20 + index * 5 % 17},
        }
        for key in "cab"
        for index in (*range(40, 70), *range(40))
    ]
    return pl.DataFrame(rows)


def tables(operator: Operator) -> dict[str, pl.DataFrame]:
    samples = drawn()
    right = pl.col("sample_index") % 3 == 0
    verdicts = samples.select("problem_id", "sample_index", "status", is_correct=right, credit=right.cast(pl.Float64))
    found = {
        "samples": conform(samples, operator.inputs["samples"], "samples"),
        "verdicts": conform(verdicts, operator.inputs["verdicts"], "verdicts"),
    }
    return found | ({"problems": PROBLEMS} if "problems" in operator.inputs else {})


@pytest.mark.parametrize(
    "operator",
    [
        SynthesizeChoose(per_problem=3),
        SynthesizeChoose(per_problem=3, prefer="diverse", max_similarity=0.9),
        SynthesizeSft(per_problem=5),
        SynthesizePreference(per_problem=4),
    ],
)
def test_however_few_texts_are_read_at_once(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tables(operator)
    whole = operator.run(**given)
    assert len(whole)
    monkeypatch.setattr(texts, "TOKENS_AT_ONCE", 200)
    monkeypatch.setattr("operators.synthesize.choose.TEXTS_AT_ONCE", 2)
    lazy = {name: table.lazy() if name in operator.lazy else table for name, table in given.items()}
    assert_frame_equal(operator.run(**lazy), whole)


def test_only_stretches_with_something_wanted_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "TOKENS_AT_ONCE", 500)
    read: list[tuple[str, int]] = []

    def note(table: pl.DataFrame) -> pl.DataFrame:
        read.extend(table.select("problem_key", "sample_index").iter_rows())
        return table

    samples = conform(drawn(), SynthesizeSft.inputs["samples"], "samples")
    rows = samples.sort("problem_key", "sample_index")
    noted = samples.lazy().map_batches(note, predicate_pushdown=True)
    wanted = (pl.col("problem_key") == "b") & pl.col("sample_index").is_in([3, 4])
    found = texts.texts_of(noted, rows, wanted, ["completion"])
    assert found.select("problem_key", "sample_index").rows() == [("b", 3), ("b", 4)]
    assert {key for key, _ in read} <= {"b"} and len(read) < 40


def test_one_stretch_of_each_problem_is_found_without_a_join() -> None:
    rows = drawn().lazy().select("problem_key", "sample_index")
    alike = pl.DataFrame({"problem_key": ["a", "c"], "first": [5, 5], "count": [10, 10]})
    apart = pl.DataFrame({"problem_key": ["a", "c", "c"], "first": [5, 5, 8], "count": [10, 3, 7]})
    found = [restrict(rows, ranges).collect().sort(pl.all()) for ranges in (alike, apart)]
    assert_frame_equal(*found)
    assert len(found[0]) == 20 and "JOIN" not in restrict(rows, alike).explain()
    assert restrict(rows, alike.head(0)).collect().is_empty()


def test_a_damaged_file_of_a_lazy_input_is_named(tmp_path: Path) -> None:
    root, operator = Root.at(tmp_path), SynthesizeChoose()
    given = tables(operator)
    part = tmp_path / "samples.parquet"
    given["samples"].write_parquet(part)
    given["verdicts"].write_parquet(tmp_path / "verdicts.parquet")
    part.write_bytes(part.read_bytes()[:-40])
    inputs = {name: Slice((str(tmp_path / f"{name}.parquet"),)) for name in given}
    with pytest.raises(DamagedFile, match=r"samples\.parquet"):
        Task(0, "choose", operator, root.url, inputs).run()
