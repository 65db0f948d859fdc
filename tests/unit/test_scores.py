"""Scoring operators on the scripted engine: what is asked, how often, and what becomes of the replies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from cluster.engines import build_engine
from operators.cutting import reduced
from operators.engine import EngineError
from operators.score.judge import ScoreJudge
from operators.score.likelihood import ScoreLikelihood
from operators.score.outcome import ScoreOutcome
from operators.score.process import ScoreProcess
from operators.score.scoring import Scoring
from operators.select.chops import SelectChops
from operators.select.mbr import SelectMbr
from schemas.contract import conform, validate
from schemas.datasets import Answer, Score
from schemas.engine import ScriptedSpec

TEXTS = ["one. The answer is 7", "two\n\nThe answer is 5", "one. The answer is 7", "bad"]


def given(operator: Any, texts: list[str] = TEXTS) -> dict[str, pl.DataFrame]:
    n = len(texts)
    samples = pl.DataFrame(
        {
            "problem_id": ["p"] * n,
            "sample_index": range(n),
            "completion": texts,
            "status": ["error" if text == "bad" else "ok" for text in texts],
        }
    )
    verdicts = samples.select(
        "problem_id", "sample_index", predicted_answer=pl.col("completion").str.extract(r"(\d+)"), status=pl.lit("ok")
    )
    problems = pl.DataFrame(
        {"problem_id": ["p"], "problem_key": ["p"], "prompt": ["What is 3 + 4?"], "task_type": ["math"]}
    )
    raw = {"samples": samples, "problems": problems, "verdicts": verdicts}
    return {name: conform(raw[name], columns, name) for name, columns in operator.inputs.items() if name in raw}


def score(operator: Scoring, calls: Path | None = None, **engine: Any) -> list[dict[str, Any]]:
    built = build_engine(ScriptedSpec(call_log=str(calls) if calls else None, **engine))
    return validate(operator.run(built, **given(operator)), Score, "test").to_dicts()


def test_each_distinct_text_is_scored_once_and_failed_samples_are_skipped(tmp_path: Path) -> None:
    found = score(ScoreOutcome(), tmp_path / "calls")
    assert [row["status"] for row in found] == ["ok", "ok", "ok", "skipped"]
    assert found[0]["score"] == found[2]["score"] != found[1]["score"]
    assert {row["scorer"] for row in found} == {"outcome"}
    assert len((tmp_path / "calls").read_text().split("\n")) - 1 == 2


def test_steps_are_cut_by_rule_or_text_and_reduced() -> None:
    text = "First, add. Then stop.\nStep 2: check\n\n  \n3. Done <tag> here."
    # a tag in the text itself would be taken for a step's end
    assert ScoreProcess().steps(text) == ["First, add. Then stop. Step 2: check", "3. Done <tag> here."]
    assert ScoreProcess(rule="line").steps(text)[:2] == ["First, add. Then stop.", "Step 2: check"]
    assert ScoreProcess(rule="sentence").steps("Add 1.5 and 2. Then stop. \"Why?\"") == [
        "Add 1.5 and 2.", "Then stop.", '"Why?"'
    ]  # fmt: skip
    assert ScoreProcess(rule="numbered").steps(text)[1:] == ["Step 2: check", "3. Done <tag> here."]
    assert ScoreProcess(separator="<sep>", step_tag="<tag>").steps("a<sep><sep>b<tag>") == ["a", "b"]
    assert ScoreProcess().steps("") == [""]
    steps = (0.9, 0.5, 0.8)
    assert [reduced(steps, how) for how in ("min", "prod", "last", "mean")] == pytest.approx([0.5, 0.36, 0.8, 2.2 / 3])
    with pytest.raises(ValidationError, match="needs a tag"):
        ScoreProcess(step_tag="")


def test_every_step_has_its_score() -> None:
    found = score(ScoreProcess(reduce="mean", scorer="prm"))
    assert [len(row["step_scores"]) for row in found[:3]] == [1, 2, 1]
    assert found[1]["score"] == pytest.approx(sum(found[1]["step_scores"]) / 2, abs=1e-6)
    assert found[0]["scorer"] == "prm"


def test_likelihood_of_the_sample_of_its_answer_and_of_its_truth() -> None:
    whole, mean = score(ScoreLikelihood()), score(ScoreLikelihood(per_token=True))
    assert whole[0]["score"] == pytest.approx(5 * mean[0]["score"])
    answer = score(ScoreLikelihood(of="answer"))
    assert answer[0]["score"] > whole[0]["score"]
    truth = score(ScoreLikelihood(of="truth"))
    assert all(0 < row["score"] < 1 for row in truth[:3])
    unread = ScoreLikelihood(of="answer")
    tables = given(unread)
    tables["verdicts"] = tables["verdicts"].with_columns(predicted_answer=pl.lit("8"))
    row = unread.run(build_engine(ScriptedSpec()), **tables).row(0, named=True)
    assert row["status"] == "error"
    assert "'8' isn't in the completion" in row["detail"]


def test_truth_is_the_share_of_yes_among_both() -> None:
    class Fixed:
        async def render(self, turns: list[dict[str, str]], **_: Any) -> str:
            assert "What is 3 + 4?" in turns[0]["content"]
            return "asked"

        async def score(self, request: Any) -> Any:
            from operators.engine import Scored

            assert request.prompt == "asked("
            return Scored({"A": math.log(0.3), "B": math.log(0.1)}[request.completion])

    import asyncio

    row = {"completion": "7", "problem_key": "p", "sample_index": 0}
    operator = ScoreLikelihood(of="truth")
    assert asyncio.run(operator.score(Fixed(), {"prompt": "What is 3 + 4?"}, row))["score"] == pytest.approx(0.75)  # type: ignore[arg-type]


def test_a_judge_scores_by_a_rubric() -> None:
    judge = ScoreJudge(low=0, high=4, votes=4)
    replies = ["Well.\nSCORE: 3", "SCORE: 1 no, SCORE: 4", "SCORE: 17", "none"]
    assert [judge.read(reply) for reply in replies] == [3, 4, None, None]
    found = score(judge, answers=("SCORE: 3",))
    assert (found[0]["score"], found[0]["detail"]) == (0.75, "votes: 3, 3, 3, 3")
    silent = score(judge, answers=("I can't say",))
    assert (silent[0]["status"], silent[0]["detail"]) == ("error", "none of 4 votes can be read")
    with pytest.raises(ValidationError, match="low must be below high"):
        ScoreJudge(low=1, high=1)


def test_a_judge_scores_by_a_checklist() -> None:
    judge = ScoreJudge(checklist=("Is it short?", "Is it right?", "Is it kind?"), votes=2)
    assert judge.read_checklist("1: YES\n2. it says no: NO\n7: YES") == {1: True, 2: False}
    found = score(judge, answers=("1: YES\n2: NO",))
    assert found[0]["score"] == 0.5
    assert found[0]["detail"] == '{"Is it short?": "2/2", "Is it right?": "0/2", "Is it kind?": "0/0"}'


def answers(operator: Any, texts: list[str], **engine: Any) -> dict[str, Any]:
    built = build_engine(ScriptedSpec(**engine))
    return validate(operator.run(built, **given(operator, texts)), Answer, "test").row(0, named=True)


def test_chops_picks_what_the_judge_names_in_any_order() -> None:
    """The judge names whatever number the answer "9" has in the order that it is shown."""
    texts = ["it is 7", "it is 7", "it is 9", "it is 5"]

    class Judge:
        capacity = 4

        async def render(self, turns: list[dict[str, str]], **_: Any) -> str:
            return turns[0]["content"]

        async def generate(self, request: Any) -> list[Any]:
            from operators.engine import Completion

            if "Checklist:" not in request.prompt:
                return [Completion("be right", "stop", 1, 1)]
            assert "be right" in request.prompt
            shown = request.prompt.split("Answer ")
            number = next(part.split(":")[0] for part in shown[1:] if "it is 9" in part)
            return [Completion(f"BEST: {number}", "stop", 1, 1)]

    operator = SelectChops()
    found = operator.run(Judge(), **given(operator, texts)).row(0, named=True)  # type: ignore[arg-type]
    assert (found["answer"], found["confidence"], found["method"]) == ("9", 1.0, "chops")
    unreadable = answers(operator, texts, answers=("hm",))
    assert (unreadable["answer"], unreadable["confidence"]) == ("7", 0.5)
    alone = answers(operator, ["it is 7"], answers=("hm",))
    assert (alone["answer"], alone["confidence"]) == ("7", 1.0)


def test_mbr_asks_a_judge_about_pairs() -> None:
    texts = ["it is 7", "it is 7", "it is 70", "it is 5", "it is 50", "it is 500"]
    operator = SelectMbr(utility="judge")
    assert answers(operator, texts, answers=("VERDICT: DIFFERENT",))["answer"] == "7"
    same = answers(operator, texts, answers=("VERDICT: SAME",))
    assert same["confidence"] == pytest.approx(1.0)
    pairs = [("50", "5"), ("5", "50"), ("500", "5"), ("5", "500")]
    alike = {f"Answer 1:\n{a}\n\nAnswer 2:\n{b}\n": ("VERDICT: SAME",) for a, b in pairs}
    some = answers(operator, texts, answers=("VERDICT: DIFFERENT",), by_prompt=alike)
    assert (some["answer"], some["confidence"]) == ("5", pytest.approx(0.5))


def test_a_transient_fault_that_stays_ends_the_call() -> None:
    class Broken:
        capacity = 2

        async def render(self, *_: Any, **__: Any) -> str:
            raise EngineError("busy", transient=True)

    operator = ScoreOutcome(retries=0)
    with pytest.raises(EngineError, match="busy"):
        operator.run(Broken(), **given(operator))  # type: ignore[arg-type]
