"""What counts episodes: draws, votes, their table and measures, how alike their rows are, scorers' steps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from operators.draws import draws
from operators.measure.alike import Alike
from operators.measure.counts import count_verdicts
from operators.measure.episodes import MeasureEpisodes
from operators.measure.pass_at_k import PassAtK
from operators.measure.scorer_steps import MeasureScorerSteps, auc
from operators.measure.selection import MeasureSelection
from operators.sample.collecting import CollectEpisodes
from operators.sample.sampling import Sampling
from operators.score.search import ScoreSearch
from operators.score.steps import ScoreSteps
from operators.select.episode import SelectEpisode
from operators.select.majority import MajorityVote
from operators.strategies.best_of import BestOf
from operators.strategies.scorers import Prm
from operators.synthesize.choose import SynthesizeChoose
from operators.verify.compose import VerifyCascade
from operators.verify.exact import VerifyExact
from operators.verify.rest import VerifyRest
from schemas.contract import polars_schema, validate
from schemas.datasets import Problem, Sample, Score, Verdict
from schemas.errors import BadInput
from tests.unit.strategies.playing import Wild

WIDTH = 4


def verdicts(episodes: dict[str, list[str]], chosen: int = 0) -> pl.DataFrame:
    """Return verdicts of rows that are right (1), wrong (0) or absent (.), by problem: a text for each episode."""
    rows: list[dict[str, Any]] = []
    for key, played in episodes.items():
        for number, said in enumerate(played):
            for slot, mark in enumerate(said):
                rows.append(
                    {
                        "problem_key": key,
                        "sample_index": number * len(said) + slot,
                        "verifier": "v",
                        "problem_id": key,
                        "predicted_answer": None if mark == "." else f"a{mark}",
                        "answer_key": None if mark == "." else f"a{mark}",
                        "is_correct": None if mark == "." else mark == "1",
                        "status": "skipped" if mark == "." else "ok",
                        "seconds": 0.0,
                        "episode": number,
                        "chosen": slot == chosen,
                    }
                )
    return pl.DataFrame(rows, schema=polars_schema(Verdict))


def test_of_an_episode_the_chosen_row_is_the_draw() -> None:
    table = verdicts({"p": ["1000", "0111", "0000"]})
    assert draws(table)["sample_index"].to_list() == [0, 4, 8]
    plain = table.with_columns(chosen=pl.lit(None, pl.Boolean))
    assert len(draws(plain)) == len(draws(table.drop("chosen"))) == 12
    assert count_verdicts(table).select("n", "c", "first").row(0) == (3, 1, 1)


def test_measures_of_draws_count_episodes() -> None:
    table = verdicts({"p": ["1000", "0111"], "q": ["0111", "0111"]})
    found = PassAtK(k=(1, 2)).run(verdicts=table.lazy())
    assert found["coverage"].to_list() == [0.25, 0.5]
    with pytest.raises(BadInput, match="k = 3"):
        PassAtK(k=(3,)).run(verdicts=table.lazy())
    measured = MeasureSelection().run(verdicts=table.lazy())
    assert measured["n"].max() == 2


def test_votes_of_episodes_are_of_what_they_chose() -> None:
    table = verdicts({"p": ["1000", "1000", "0000"]})
    assert MajorityVote().run(table.drop("chosen"))["is_correct"].to_list() == [False]
    assert SelectEpisode().run(table).select("is_correct", "n_samples").row(0) == (True, 3)
    scores = table.select("problem_key", "sample_index", scorer=pl.lit("search"), score=pl.lit(0.2))
    scores = scores.with_columns(score=pl.when(pl.col("sample_index") == 8).then(0.9).otherwise("score"))
    by = {by: SelectEpisode(by=by).run(table, scores)["is_correct"].item() for by in ("best", "weighted")}  # type: ignore[arg-type]
    assert by == {"best": False, "weighted": False}
    with pytest.raises(BadInput, match=r"score\.search"):
        SelectEpisode(by="best").run(table)


def test_the_correlation_within_episodes() -> None:
    rows = verdicts({"p": ["1111", "0000", "1101", "0010"]})
    alike = Alike.of(rows.select("problem_key", "episode", right=pl.col("is_correct").cast(pl.Float64)))
    assert alike.between.sum() / alike.free_between.sum() == pytest.approx(0.8333, abs=5e-5)
    assert alike.within.sum() / alike.free_within.sum() == pytest.approx(0.125)
    assert alike.rho == pytest.approx(0.5862, abs=5e-5) and alike.n_eff(alike.rho or 0) == pytest.approx(
        1.450, abs=5e-4
    )


def test_hard_and_easy_problems_do_not_make_episodes_alike() -> None:
    rng = np.random.default_rng(1)
    said = {
        f"p{number}": ["".join("1" if rng.random() < rate else "0" for _ in range(4)) for _ in range(20)]
        for number, rate in enumerate((0.05, 0.95) * 10)
    }
    rows = verdicts(said).select("problem_key", "episode", right=pl.col("is_correct").cast(pl.Float64))
    assert abs(Alike.of(rows).rho or 1.0) < 0.1


def test_what_is_not_known_of_a_correlation_is_told() -> None:
    def of(*said: str) -> Alike:
        table = verdicts({"p": list(said)}).drop_nulls("is_correct")
        return Alike.of(table.select("problem_key", "episode", right=pl.col("is_correct").cast(pl.Float64)))

    assert of("1010").rho is None and "two episodes" in of("1010").why
    assert of("1", "0").rho is None and "one row" in of("1", "0").why
    assert of("11", "11").rho is None and "same" in of("11", "11").why
    uneven = of("11..", "0...", "101.")
    assert uneven.size.sum() == pytest.approx(6 - (4 + 1 + 9) / 6)


def test_independent_rows_have_as_many_as_they_are() -> None:
    rng = np.random.default_rng(0)
    said = {f"p{n}": ["".join(rng.choice(["0", "1"], 4, p=[0.7, 0.3])) for _ in range(30)] for n in range(20)}
    rows = verdicts(said).select("problem_key", "episode", right=pl.col("is_correct").cast(pl.Float64))
    k_any, _ = Alike.of(rows).k_any()
    assert k_any == pytest.approx(4, abs=0.5)


def facts(strategy: str = "beam", **more: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("calls", "prompt_tokens", "cached_prompt_tokens", "scorer_passes", "scorer_tokens"), 2)
    return {
        "strategy": strategy, "finals": 4, "chosen": 0, "ended_by": "done", "oracle": False, "completion_tokens": 10,
        "lineages": 1, "distinct_texts": 2, "note": {"rounds": 1, "ess_min": 1.5}, **numbers, **more,
    }  # fmt: skip


def samples(table: pl.DataFrame, told: list[dict[str, Any]]) -> pl.DataFrame:
    rows = table.select("problem_key", "sample_index", "problem_id", "episode", "chosen").with_columns(
        slot=pl.col("sample_index") % WIDTH, completion_hash=pl.col("sample_index")
    )
    texts = iter(json.dumps(one) for one in told)
    return rows.with_columns(
        episode_facts=pl.Series([next(texts) if slot == 0 else None for slot in rows["slot"]], dtype=pl.String)
    )


def test_episodes_are_collected_of_their_first_rows() -> None:
    table = verdicts({"p": ["1000", "0111"], "q": ["0000"]})
    told = [facts(chosen=2), facts(chosen=None, ended_by="nothing"), facts("dvts", oracle=True)]
    found = CollectEpisodes().run(samples(table, told))
    assert found["chosen"].to_list() == [2, None, 0] and found["rows"].to_list() == [4, 4, 4]
    assert found["strategy"].to_list() == ["beam", "beam", "dvts"] and found["oracle"].to_list() == [False, False, True]
    assert json.loads(found["note"][0]) == {"rounds": 1, "ess_min": 1.5}
    validate(found, CollectEpisodes.output, "collect")
    assert CollectEpisodes().run(samples(table, told).with_columns(episode=pl.lit(None, pl.Int64))).is_empty()


def _measured(table: pl.DataFrame, told: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    rows = samples(table, told)
    found = MeasureEpisodes(bootstrap=200).run(
        CollectEpisodes().run(rows).lazy(),
        table.lazy(),
        rows.select("problem_key", "sample_index", "completion_hash").lazy(),
    )
    validate(found, MeasureEpisodes.output, "measure")
    return {row["metric"]: row for row in found.to_dicts()}


def test_episodes_are_measured() -> None:
    table = verdicts({"p": ["1000", "0111"], "q": ["0000", "1101"], "r": ["....", "0011"]})
    told = [facts(), facts(), facts(), facts(chosen=None, ended_by="nothing"), facts(), facts(completion_tokens=40)]
    told[1]["note"] = {"rounds": 2}
    found = _measured(table, told)
    assert found["accuracy"]["value"] == pytest.approx((0.5 + 0.5 + 0.0) / 3) and found["accuracy"]["n"] == 5
    assert (
        found["any_right"]["value"] == pytest.approx((1 + 0.5 + 1) / 3) and "not pass@k" in found["any_right"]["note"]
    )
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]
    assert found["accuracy"]["same_low"] is None  # one episode of r counts
    assert found["vote"]["value"] == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert found["completion_tokens"]["value"] == pytest.approx((10 + 10 + 25) / 3)
    assert found["tokens"]["value"] == found["completion_tokens"]["value"] + 4
    assert found["found_nothing"]["value"] == pytest.approx(1 / 6) == found["ended_by.nothing"]["value"]
    assert found["note.rounds"]["value"] == pytest.approx((1.5 + 1 + 1) / 3) and found["note.ess_min"]["n"] == 5
    assert found["n_eff"]["value"] <= 4 and found["rho"]["n_problems"] == 2


def test_these_very_problems_need_two_episodes_each() -> None:
    found = _measured(verdicts({"p": ["1000", "0111"], "q": ["0000", "0001"]}), [facts()] * 4)["accuracy"]
    wide = 1.96 * np.sqrt(0.5 / 2 + 0) / 2
    assert (found["same_low"], found["same_high"]) == (pytest.approx(0.0), pytest.approx(0.25 + wide))


def test_without_verdicts_bills_are_measured() -> None:
    rows = samples(verdicts({"p": ["1000"]}), [facts(note={})])
    found = MeasureEpisodes().run(CollectEpisodes().run(rows).lazy())
    assert "accuracy" not in found["metric"] and "calls" in found["metric"]
    with pytest.raises(BadInput, match="no episodes"):
        MeasureEpisodes().run(CollectEpisodes().run(rows.head(0)).lazy())


def test_verdicts_and_scores_copy_the_episode() -> None:
    about = {"problem_key": "p", "problem_id": "p", "prompt": "Q", "answer": "7", "task_type": "math"}
    about["verification"] = json.dumps({"rest": [{"answer": "7"}]})  # type: ignore[assignment]
    problems = pl.DataFrame([about], schema=polars_schema(Problem))
    rows = pl.DataFrame(
        [
            {"problem_key": "p", "problem_id": "p", "sample_index": index, "completion": text, "status": status,
             "completion_hash": index, "episode": index // 2, "chosen": index % 2 == 1, "search_score": score}
            for index, (text, status, score) in enumerate(
                [("\\boxed{7}", "ok", 0.5), ("\\boxed{8}", "ok", None), ("", "none", None), ("", "ok", None)]
            )
        ],
        schema=polars_schema(Sample),
    )  # fmt: skip
    told = [(0, False), (0, True), (1, False), (1, True)]
    exact: Any = {"operator": "verify.exact"}
    for verifier in (VerifyExact(), VerifyCascade(verifiers=(exact, VerifyExact(extract=("whole",))))):
        found = verifier.run(rows.select(verifier.inputs["samples"].names), problems)
        assert found.sort("sample_index").select("episode", "chosen").rows() == told
        assert found.sort("sample_index")["is_correct"].to_list() == [True, False, None, False]
    rest = VerifyRest(verifier=exact)
    found = rest.run(rows.select(rest.inputs["samples"].names), problems.select(rest.inputs["problems"].names))
    assert set(found.select("sample_index", "episode", "chosen").rows()) == {(i, *one) for i, one in enumerate(told)}
    scores = ScoreSearch().run(rows.select(ScoreSearch.inputs["samples"].names))
    assert scores.select("episode", "chosen").rows() == told
    assert scores["status"].to_list() == ["ok", "error", "skipped", "error"] and scores["score"][0] == 0.5
    validate(scores, Score, "score")


def test_of_an_episode_one_row_is_trained_on() -> None:
    table = verdicts({"p": ["1111", "0110"]}, chosen=1)
    rows = table.select("problem_key", "sample_index", "problem_id", "episode", "chosen").with_columns(
        completion=pl.format("text {}", "sample_index"), reasoning=pl.lit(None, pl.String),
        completion_hash="sample_index", thought_open=pl.lit(False), tool_calls=pl.lit(None, pl.String),
        finish_reason=pl.lit("stop"), completion_tokens=pl.lit(1), status=pl.lit("ok"),
    )  # fmt: skip
    found = SynthesizeChoose(per_problem=8).run(rows, table)
    assert found.filter("kept")["sample_index"].to_list() == [1, 5]
    assert set(found.filter(~pl.col("kept"))["reason"]) == {"wrong", "beyond max_per_episode"}
    found = SynthesizeChoose(per_problem=8, max_per_episode=2).run(rows, table)
    assert found.filter("kept")["sample_index"].to_list() == [0, 1, 5, 6]


def test_auc_of_values() -> None:
    values, right = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    assert auc(values, right) == pytest.approx(3.5 / 4) and auc(values[:2], right[:2]) is None
    assert auc(values, right, np.array([1, 0, 1, 1])) == 1.0


def test_scorers_are_measured_on_prefixes_by_depth() -> None:
    rows: list[dict[str, Any]] = []
    steps = {0: [0.9, 0.9, 0.9], 1: [0.9, 0.2, 0.8], 2: [0.9, 0.8, 0.7], 3: [0.9, 0.1, 0.95]}
    for problem in ("p", "q"):
        rows += [
            {"problem_key": problem, "sample_index": index, "problem_id": problem, "scorer": "prm", "score": 0.5,
             "step_scores": values, "status": "ok"}
            for index, values in steps.items()
        ]  # fmt: skip
    scores = pl.DataFrame(rows, schema=polars_schema(Score))
    judged = verdicts({"p": ["1", "0", "1", "0"], "q": ["1", "0", "1", "0"]}).with_columns(
        chosen=pl.lit(None, pl.Boolean)
    )
    found = MeasureScorerSteps().run(scores.lazy(), judged.lazy())
    validate(found, MeasureScorerSteps.output, "measure")
    by = {(row["reduce"], row["depth"]): row for row in found.to_dicts()}
    assert by["last", "first"]["auc"] == 0.5 and "warning" in by["last", "first"]["note"]
    assert by["last", "middle"]["auc"] == by["min", "last"]["auc"] == by["min", "last"]["within"] == 1.0
    assert by["last", "last"]["auc"] == 0.25 and by["last", "all"]["n"] == 24 and by["last", "all"]["n_problems"] == 2
    with pytest.raises(BadInput, match=r"score\.steps"):
        MeasureScorerSteps().run(scores.lazy(), judged.with_columns(is_correct=pl.lit(None, pl.Boolean)).lazy())


def test_beginnings_of_completions_are_scored() -> None:
    operator = ScoreSteps(by=Prm(step_tag="#", reduce="whole"), most=2)
    text = "a b\n\nc\n\n\n\nd"
    assert ScoreSteps().prefixes(text) == ["a b\n\n", "a b\n\nc\n\n", text] and operator.prefixes(text) == [
        "a b\n\n",
        text,
    ]
    assert ScoreSteps().prefixes("") == [""] and ScoreSteps().prefixes("a\n\n") == ["a\n\n"]
    rows = pl.DataFrame(
        {"problem_key": ["p"], "sample_index": [0], "problem_id": ["p"], "completion": [text], "completion_hash": [1],
         "status": ["ok"]}
    )  # fmt: skip
    problems = pl.DataFrame([{"problem_key": "p", "prompt": "Q"}], schema=polars_schema(Problem))
    problems = problems.select(operator.inputs["problems"].names)
    found = operator.run(Wild(), problems=problems, samples=rows)
    assert found["scorer"].item() == "prm" and found["step_scores"].list.len().item() == 2
    assert found["score"].item() == pytest.approx(found["step_scores"].item()[-1])
    with pytest.raises(ValueError, match="asks no engine"):
        ScoreSteps(by="certainty")  # type: ignore[arg-type]


def test_a_strategy_in_a_sampling_stage_gives_whole_episodes() -> None:
    sampling = Sampling(n=5, strategy=BestOf(width=WIDTH), max_tokens=8)
    problems = pl.DataFrame([{"problem_key": "k", "problem_id": "p", "prompt": "Q"}], schema=polars_schema(Problem))
    table = sampling.run(problems.select(Sampling.inputs["problems"].names), Wild())
    assert len(table) == sampling.per_problem == 8 and table["episode"].to_list() == [0] * 4 + [1] * 4
    assert len(CollectEpisodes().run(table)) == 2
