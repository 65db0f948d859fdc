"""Selections by weight: what each picks, how sure it is, and what all of them do in odd cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from operators import operator_class
from operators.base import Operator
from operators.prune.confidence import PruneConfidence
from operators.prune.rpc import PruneRpc
from operators.select.abductive import SelectAbductive
from operators.select.majority import MajorityVote
from operators.select.mbr import SelectMbr, mean_f1
from operators.select.perplexity import Perplexity, PerplexityConsistency, Rpc
from operators.select.scored import BestOfN, WeightedVote
from operators.select.selection import beside
from operators.select.several import SelectSeveral
from operators.select.top_two import SelectTopTwo
from schemas.contract import conform
from schemas.errors import BadInput
from tests.voting import one, rows, select, tables

METHODS = (
    MajorityVote(), WeightedVote(), BestOfN(), Perplexity(), PerplexityConsistency(), Rpc(), SelectTopTwo(),
    SelectMbr(), SelectMbr(utility="f1", name="f1"), SelectAbductive(),
)  # fmt: skip


def test_weighted_sums_scores_and_best_of_n_takes_the_best() -> None:
    samples = rows("5", "7", "7", "9", score=[0.9, 0.4, 0.6, 0.05])
    weighted, best = one(WeightedVote(), *samples), one(BestOfN(), *samples)
    assert (weighted["answer"], weighted["runner_up"], weighted["method"]) == ("7", "5", "weighted")
    assert weighted["confidence"] == pytest.approx(1.0 / 1.95)
    assert weighted["runner_up_confidence"] == pytest.approx(0.9 / 1.95)
    assert (best["answer"], best["confidence"], best["runner_up"], best["is_correct"]) == ("5", 0.9, "7", False)


def test_logits_are_no_weights_until_they_are_made_such() -> None:
    samples = rows("5", "7", "7", score=[2.0, -1.0, 0.5])
    with pytest.raises(BadInput, match=r"problem 'p0', sample 1 is -1.*transform = sigmoid"):
        one(WeightedVote(), *samples)
    share = [1 / (1 + math.exp(-value)) for value in (2.0, -1.0, 0.5)]
    found = one(WeightedVote(transform="sigmoid"), *samples)
    assert (found["answer"], found["confidence"]) == ("7", pytest.approx(sum(share[1:]) / sum(share)))
    assert one(WeightedVote(transform="softmax", temperature=0.1), *samples)["answer"] == "5"
    assert one(BestOfN(transform="sigmoid"), *samples)["confidence"] == pytest.approx(share[0])


def test_each_scorer_and_each_verifier_gets_an_answer_of_its_own() -> None:
    given = tables(rows("5", "7"))
    one_score = given["scores"].with_columns(scorer=pl.lit("a"))
    given["scores"] = pl.concat([one_score, one_score.with_columns(scorer=pl.lit("b"), score=pl.Series([0.1, 0.2]))])
    found = {row["method"]: row["answer"] for row in select(BestOfN(), given)}
    assert found == {"best_of_n/a": "5", "best_of_n/b": "7"}
    judged = given["verdicts"].with_columns(verifier=pl.lit("judge"), credit=pl.Series([0.9, 0.2]))
    given["verdicts"] = pl.concat([judged, judged.with_columns(verifier=pl.lit("other"), credit=pl.Series([0.2, 0.9]))])
    found = {row["method"]: row["answer"] for row in select(WeightedVote(by="credit"), given)}
    assert found == {"weighted/judge": "5", "weighted/other": "7"}


def test_perplexity_takes_the_likeliest_and_consistency_sums_over_distinct_texts() -> None:
    logs = [math.log(p) for p in (0.3, 0.3, 0.4, 0.45)]
    samples = rows("7", "7", "7", "5", text=["a", "a", "b", "c"], logprob=logs)
    assert one(Perplexity(), *samples)["answer"] == "5"
    assert one(Perplexity(), *samples)["confidence"] == pytest.approx(0.45)
    found = one(PerplexityConsistency(), *samples)
    assert (found["answer"], found["confidence"]) == ("7", pytest.approx(0.7 / 1.15))  # "a" counts once


def test_rpc_is_consistency_over_what_pruning_keeps() -> None:
    rng = np.random.default_rng(7)
    p = np.clip(np.concatenate([0.35 * rng.weibull(2, 60), 0.85 * rng.weibull(12, 68)]), 1e-6, 1)
    given = tables(rows(*["5"] * 60, *["7"] * 68, logprob=np.log(p).tolist()))
    pruned = PruneRpc().run(conform(given["samples"], PruneRpc.inputs["samples"], "test"))
    kept = pruned.sort("sample_index")["kept"].to_numpy()
    assert (~kept).sum() == 56
    [found] = select(Rpc(), given)
    assert (found["answer"], found["confidence"]) == ("7", pytest.approx(p[60:][kept[60:]].sum() / p[kept].sum()))
    given["paths"] = pruned.with_columns(kept=pl.lit(True))
    [unpruned] = select(Rpc(), given)
    assert unpruned["confidence"] == pytest.approx(p[60:].sum() / p.sum())


@pytest.mark.parametrize("operator", METHODS, ids=lambda operator: operator.method)
def test_odd_problems_have_defined_answers(operator: Operator) -> None:
    nan, inf = float("nan"), float("inf")
    missing = {"logprob": [None, nan, -inf], "score": [None, nan, inf]}
    given = tables(
        rows("7"),  # 0: one sample
        rows("b", "a", "a", "b"),  # 1: a tie of equal weights, none right
        rows("7", "5", "5", **missing),  # 2: no weight at all: the plain vote
        rows(None, None),  # 3: no answer
        rows("5", "7", "7", "7", None, logprob=[nan] + [math.log(0.5)] * 4, score=[nan, 1.0, 1.0, 1.0, 1.0]),  # 4
    )
    found = select(operator, given)
    assert [row["answer"] for row in found] == ["7", "b", "5", None, "7"]
    assert [row["n_samples"] for row in found] == [1, 4, 3, 2, 5]
    assert [row["is_correct"] for row in found] == [True, False, False, False, True]
    assert found[1]["runner_up"] == "a"
    assert all(0 <= row["confidence"] <= 1 for row in found)
    assert found[3]["confidence"] == 0
    assert found[3]["runner_up"] is None


@pytest.mark.parametrize("operator", METHODS, ids=lambda operator: operator.method)
def test_thousands_of_classes(operator: Operator) -> None:
    answers = [str(number) for number in range(3000)]
    [found] = select(operator, tables(rows(*answers, "17"), right="17"))
    if operator.method in ("best_of_n", "perplexity"):
        assert found["answer"] == "0"  # all equal: the first
    else:
        assert found["answer"] == "17"


@given(st.lists(st.lists(st.sampled_from(["7", "1", "2", None]), min_size=1, max_size=9), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_equal_weights_are_the_plain_vote(problems: list[list[str | None]]) -> None:
    given = tables(*[rows(*answers) for answers in problems])
    wanted = select(MajorityVote(), given)
    for operator in (WeightedVote(), PerplexityConsistency(), Rpc(), SelectMbr()):
        for row, plain in zip(select(operator, given), wanted, strict=True):
            assert row["answer"] == plain["answer"]
            assert row["confidence"] == pytest.approx(plain["confidence"])
            assert row["runner_up"] == plain["runner_up"]


def test_several_methods_stand_side_by_side_and_say_what_they_say_alone() -> None:
    rng = np.random.default_rng(0)
    problems = [
        rows(*rng.choice(["7", "1", "2"], 30), logprob=(-rng.gamma(2, 0.2, 30)).tolist(), score=rng.random(30).tolist())
        for _ in range(12)
    ]
    given = tables(*problems)
    together = SelectSeveral(methods=METHODS)
    assert together.scope == "dataset"
    assert SelectSeveral(methods=METHODS[:9]).scope == "problem"
    assert {"verdicts", "samples", "scores"} <= together.inputs.keys() - together.optional
    found = select(together, given)
    for method in METHODS:
        assert [row for row in found if row["method"] == method.method] == select(method, given)
    assert select(SelectSeveral(methods=METHODS[:9]), given) == [r for r in found if r["method"] != "abductive"]


def test_methods_can_be_given_by_name_and_must_be_selections_of_different_names() -> None:
    several = operator_class("select.several")
    named = several(methods=("select.majority", {"operator": "select.mbr", "utility": "f1"}))
    assert [method.public_name() for method in named.methods] == ["select.majority", "select.mbr"]
    with pytest.raises(ValidationError, match=r"'verify\.math' isn't a selection method"):
        several(methods=("verify.math",))
    with pytest.raises(ValidationError, match="'majority' occurs twice"):
        several(methods=("select.majority", "select.majority"))


def test_mean_f1_is_the_mean_over_all_pairs() -> None:
    from collections import Counter

    rng = np.random.default_rng(0)
    texts = sorted({" ".join(rng.choice(list("abc"), rng.integers(0, 6))) for _ in range(30)})
    shares = rng.dirichlet(np.ones(len(texts)))

    def f1(a: str, b: str) -> float:
        first, second = Counter(a.split()), Counter(b.split())
        total = first.total() + second.total()
        return 2 * (first & second).total() / total if total else 1.0

    wanted = [sum(share * f1(a, b) for b, share in zip(texts, shares, strict=True)) for a in texts]
    table = pl.DataFrame({"problem_key": ["p"] * len(texts), "text": texts, "share": shares})
    assert mean_f1(table) == pytest.approx(wanted)


def test_evidence_is_compared_with_and_never_picked() -> None:
    given = tables(rows("5", "5", "7"))
    more = tables(rows("7", "7", "7", "9", "9", "9", "9", "9"))
    given["evidence"] = more["verdicts"]
    [found] = select(SelectMbr(), given)
    assert (found["answer"], found["confidence"], found["n_samples"]) == ("7", pytest.approx(4 / 11), 3)
    [found] = select(SelectMbr(evidence_weight=0.1), given)
    assert found["answer"] == "5"


def confident(*values: float | None, **columns: Any) -> pl.DataFrame:
    table = pl.DataFrame(
        {
            "problem_id": ["p"] * len(values),
            "sample_index": range(len(values)),
            "status": ["ok"] * len(values),
            "lowest_group_confidence": values,
            **columns,
        },
        schema_overrides={"lowest_group_confidence": pl.Float64},
    )
    return conform(table, PruneConfidence.inputs["samples"], "test")


def test_the_most_confident_traces_stay() -> None:
    found = PruneConfidence(keep=0.1).run(confident(*range(1, 21)))
    assert found.filter("kept")["sample_index"].to_list() == [18, 19]
    assert found.filter("kept")["weight"].to_list() == [19.0, 20.0]
    assert found.filter(~pl.col("kept"))["reason"].unique().to_list() == ["unsure: below the confidence that is kept"]
    assert PruneConfidence(keep=0.9).run(confident(*range(1, 21)))["kept"].sum() == 18


@given(st.lists(st.none() | st.floats(0, 30) | st.just(float("nan")), min_size=1, max_size=30), st.floats(0.01, 1))
def test_a_problem_never_loses_its_last_trace(values: list[float | None], keep: float) -> None:
    found = PruneConfidence(keep=keep).run(confident(*values))
    assert len(found) == len(values)
    assert found["kept"].any()
    assert (found["kept"] == (found["reason"].is_null() | (found["reason"] == "no confidence"))).all()
    assert (found["weight"].is_finite() & ((found["weight"] > 0) <= found["kept"])).all()


def test_traces_vote_with_their_confidence() -> None:
    given = tables(rows("5", "7", "7"))
    given["paths"] = pl.DataFrame(
        {"problem_id": ["p0"] * 3, "sample_index": [0, 1, 2], "weight": [9.0, 4.0, 0.0], "kept": [True, True, False]}
    )
    del given["scores"]
    [found] = select(WeightedVote(), given)
    assert (found["answer"], found["confidence"]) == ("5", pytest.approx(9 / 13))
    del given["paths"]
    with pytest.raises(BadInput, match="nothing to weigh by"):
        select(WeightedVote(), given)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
@settings(max_examples=40, deadline=None)
def test_what_is_read_beside_verdicts_may_come_in_any_order(order: list[int], lost: set[int]) -> None:
    keys = pl.DataFrame({"problem_key": ["a", "b", "c"] * 4, "sample_index": list(range(12))}).sort(
        "problem_key", "sample_index"
    )
    table = keys.with_columns(mean_logprob=-pl.col("sample_index").cast(pl.Float64))
    some = table[order].filter(~pl.col("sample_index").is_in(list(lost)))
    found = beside(keys, some)
    assert found.select(keys.columns).equals(keys)
    assert found.rows() == [(k, i, None if i in lost else -float(i)) for k, i in keys.rows()]
