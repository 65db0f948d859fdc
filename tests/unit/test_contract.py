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


def test_what_can_be_cast_without_loss_is_cast() -> None:
    table = verdicts().cast({"sample_index": pl.Int32, "credit": pl.Float32, "status": pl.Categorical})
    table = table.with_columns(detail=None, predicted_answer=pl.lit(None, pl.Int64), seconds=pl.lit(0))
    found = validate(table, Verdict, "verify")
    assert found.schema == polars_schema(Verdict)
    assert found.row(0, named=True) == verdicts().row(0, named=True)
    assert validate(verdicts().with_columns(seconds=pl.lit(0.1)), Verdict, "verify")["seconds"].dtype == pl.Float32
    assert validate(verdicts().cast({"sample_index": pl.Float64}), Verdict, "verify")["sample_index"].to_list() == [3]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.Series("sample_index", [1.5]), "sample_index is Float64.*can't hold all of its values .1.5 in row 1"),
        (pl.Series("sample_index", [2**63], dtype=pl.UInt64), "can't hold all of its values"),
        (pl.Series("credit", [2**53 + 1]), "credit is Int64.*can't hold all"),
        (pl.Series("credit", ["0.5"]), "credit is String, the contract says Float64"),
        (pl.Series("is_correct", [1]), "is_correct is Int64, the contract says Boolean"),
        (pl.Series("problem_id", [7]), "problem_id is Int64, the contract says String"),
        (pl.Series("seconds", [1e300]), "seconds is Float64.*can't hold all"),
    ],
)
def test_what_would_lose_something_is_refused(column: pl.Series, words: str) -> None:
    with pytest.raises(ContractViolation, match=words):
        validate(verdicts().with_columns(column), Verdict, "verify")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = (
        verdicts(credit=1.5, status="fine", verifier=None)
        .drop("detail")
        .with_columns(extra=1, is_correct=pl.lit("yes"))
    )
    with pytest.raises(ContractViolation) as refused:
        validate(bad, Verdict, "verify")
    lines = str(refused.value).splitlines()
    assert lines[0] == "stage verify: 5 things are wrong:"
    for words in ("lacks column(s) ['detail']", "['extra']", "is_correct is String", "1.5", "'fine'", "nullability"):
        assert words in str(refused.value)
    with pytest.raises(BadInput) as told:
        wanted = Sample.select("problem_key", "sample_index", "completion", "prompt_tokens")
        conform(pl.DataFrame({"problem_id": ["a"], "sample_index": ["one"]}), wanted, "s.csv")
    for words in (
        "3 things are wrong",
        "'sample_index' is text",
        "'one'",
        "'completion' is missing",
        "'prompt_tokens'",
    ):
        assert words in str(told.value)


def test_texts_of_files_without_dtypes_are_read_as_what_they_say() -> None:
    table = pl.DataFrame(
        {
            "problem_id": ["007", "1.50"],
            "sample_index": ["0", "9007199254740993"],
            "is_correct": ["true", "False"],
            "credit": ["", "0.25"],
        }
    )
    found = conform(table, Verdict.select("problem_id", "sample_index", "is_correct", "credit"), "v.csv")
    assert found.rows() == [("007", 0, True, None), ("1.50", 9007199254740993, False, 0.25)]
    numbered = conform(pl.DataFrame({"problem_id": [7.0, 8.0]}), Verdict.select("problem_id"), "v.parquet")
    assert numbered["problem_id"].to_list() == ["7", "8"]


def test_a_column_that_came_later_may_be_absent() -> None:
    row = {"problem_key": "k", "problem_id": "p", "prompt": "Q?", "task_type": "t"}
    nothing = dict.fromkeys(("messages", "answer", "verification", "metadata"))
    found = validate(pl.DataFrame([row | nothing]), Problem, "mine")
    assert found["tools"].to_list() == [None] and found.schema == polars_schema(Problem)
