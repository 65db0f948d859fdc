"""Row contracts: what is refused, and what the refusal says."""

from __future__ import annotations

import polars as pl
import pytest

from cluster.storage.arrow import arrow_schema
from schemas.contract import Contract, conform, polars_schema, validate
from schemas.datasets import DATASETS, Problem, Sample, Verdict
from schemas.errors import BadInput, ContractViolation


def verdicts(**columns: object) -> pl.DataFrame:
    row = {
        "problem_key": "k",
        "sample_index": 3,
        "verifier": "v",
        "problem_id": "p",
        "predicted_answer": None,
        "answer_key": None,
        "is_correct": True,
        "credit": 0.5,
        "status": "ok",
        "detail": None,
        "seconds": 0.0,
        **columns,
    }
    return pl.DataFrame([row], schema=polars_schema(Verdict))


def test_a_good_table_comes_back_sorted_by_key() -> None:
    table = pl.concat([verdicts(sample_index=5), verdicts(sample_index=1)])
    assert validate(table, Verdict, "verify")["sample_index"].to_list() == [1, 5]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"status": "fine"}, ["stage verify", "Verdict.status", "'fine'", "'sample_index': 3", "regex"]),
        ({"credit": 1.5}, ["Verdict.credit", "1.5", "max", "'problem_key': 'k'"]),
        ({"sample_index": -1}, ["Verdict.sample_index", "min"]),
        ({"verifier": None}, ["Verdict.verifier", "nullability"]),
    ],
)
def test_a_violation_names_stage_column_key_and_rule(columns: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ContractViolation) as refused:
        validate(verdicts(**columns), Verdict, "verify")
    for word in words:
        assert word in str(refused.value)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ContractViolation, match="primary_key"):
        validate(pl.concat([verdicts(), verdicts()]), Verdict, "verify")


def test_columns_are_never_widened_silently() -> None:
    for table in (verdicts().with_columns(extra=1), verdicts().drop("detail")):
        with pytest.raises(ContractViolation, match=r"extra|detail"):
            validate(table, Verdict, "verify")
    with pytest.raises(ContractViolation, match=r"Verdict\.sample_index is String"):
        validate(verdicts().cast({"sample_index": pl.String}), Verdict, "verify")


def test_user_tables_are_taken_leniently() -> None:
    table = pl.DataFrame(
        {"problem_id": ["a"], "sample_index": [0], "completion": ["x"]}, schema_overrides={"sample_index": pl.UInt8}
    )
    wanted = Sample.select("problem_key", "sample_index", "completion", "completion_hash", "reasoning", "status")
    found = conform(table, wanted, "s.parquet")
    assert found["problem_key"].to_list() == ["a"]
    assert found.schema["sample_index"] == pl.Int64
    assert found["completion_hash"].dtype == pl.Int64
    assert found["reasoning"].to_list() == [None]
    with pytest.raises(BadInput, match=r"prompt_tokens.*found"):
        conform(table, Sample.select("prompt_tokens"), "s.parquet")


@pytest.mark.parametrize("contract", DATASETS.values(), ids=DATASETS.keys())
def test_every_contract_has_an_arrow_schema_with_its_nullability(contract: type[Contract]) -> None:
    schema = arrow_schema(contract)
    assert schema.names == contract.column_names()
    for name, column in contract.columns().items():
        assert schema.field(name).nullable == column.nullable


def test_integers_are_signed_64_bit() -> None:
    for contract in DATASETS.values():
        for dtype in polars_schema(contract).values():
            assert not dtype.is_integer() or dtype == pl.Int64


def test_select_refuses_a_column_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="promt"):
        Problem.select("promt")
