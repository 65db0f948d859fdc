"""Training rows out of episodes: whole conversations, pairs of siblings and of revisions, values of steps."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from operators.strategies.beam import Beam
from operators.strategies.oversample import Oversample
from operators.strategies.reflect import Reflect
from operators.strategies.revise import Revise
from operators.strategies.strategy import Strategy
from operators.synthesize.sft import SynthesizeSft
from operators.synthesize.siblings import SynthesizeSiblings
from operators.synthesize.tree_rewards import SynthesizeTreeRewards
from operators.transform.trial_and_error import SynthesizeTrialAndError
from schemas.contract import polars_schema, validate
from schemas.datasets import Preference, Problem, Sample, Sft, StepReward, Verdict
from tests.unit.strategies import literature, playing
from tests.unit.strategies.literature import in_turn, scripted
from tests.unit.strategies.playing import PROBLEM, played, setting, tree
from tests.unit.strategies.playing import scripted as by_prefix

PROBLEMS = pl.DataFrame([{**PROBLEM, "answer": "7", "task_type": "math"}], schema=polars_schema(Problem), strict=False)


def drawn(strategy: Strategy, at: Any) -> pl.DataFrame:
    return pl.DataFrame(played(strategy, at), schema=polars_schema(Sample), orient="row")


def judged(samples: pl.DataFrame, right: str) -> pl.DataFrame:
    rows = [
        {"problem_key": key, "sample_index": index, "problem_id": "p", "verifier": "v", "status": "ok", "credit": 1.0,
         "is_correct": right in text}
        for key, index, text in samples.select("problem_key", "sample_index", "completion").iter_rows()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=polars_schema(Verdict), orient="row")


def read(operator: Any, samples: pl.DataFrame, verdicts: pl.DataFrame | None) -> pl.DataFrame:
    tables: dict[str, Any] = {"problems": PROBLEMS, "samples": samples, "verdicts": verdicts}
    inputs = {
        name: tables[name].select(columns.names)
        for name, columns in operator.inputs.items()
        if tables.get(name) is not None
    }  # pyright: ignore
    return operator.run(**inputs)


def chain(**fields: Any) -> pl.DataFrame:
    at, _ = scripted(in_turn("so \\boxed{1}", "so \\boxed{2}", "so \\boxed{7}", "no \\boxed{8}"))
    return drawn(Revise(every=True, **fields), at)


def test_a_right_revision_is_paired_with_a_wrong_one() -> None:
    samples = chain()
    pairs = validate(read(SynthesizeSiblings(per_episode=2), samples, judged(samples, "{7}")), Preference, "pairs")
    assert [row[0]["content"] for row in pairs["chosen"]] == ["so \\boxed{7}"] * 2
    assert [row[0]["content"] for row in pairs["rejected"]] == ["so \\boxed{1}", "so \\boxed{2}"]
    lineage = json.loads(pairs["lineage"][0])
    assert lineage["episode"] == 0 and (lineage["chosen"], lineage["rejected"]) == (2, 0)
    assert read(SynthesizeSiblings(), samples, judged(samples, "none")).is_empty()


def test_a_conversation_is_trained_on_whole_where_it_is_wanted() -> None:
    samples = chain(select="last", length=3)
    verdicts = judged(samples, "{7}")
    last = validate(read(SynthesizeSft(), samples, verdicts), Sft, "sft")
    whole = validate(read(SynthesizeSft(conversation="whole"), samples, verdicts), Sft, "sft")
    assert [len(row) for row in last["messages"]] == [2] and [len(row) for row in whole["messages"]] == [6]
    assert whole["messages"][0][-1]["content"] == last["messages"][0][-1]["content"] == "so \\boxed{7}"


SCORES = {"A": 0.9, "B": 0.8, "A A": 0.3, "A B": 0.7, "B A": 0.2, "B B": 0.95}
ENDS = {f"{path} \\boxed{{{path.replace(' ', '')}}}": SCORES[path] for path in SCORES if " " in path}


def searched() -> pl.DataFrame:
    scorer: Any = {"name": "prm", "reduce": "whole", "step_tag": "#"}
    return drawn(Beam(width=8, beam=2, scorer=scorer), setting(by_prefix(tree(2), SCORES | ENDS)))


def test_siblings_that_part_last_are_paired_by_score_or_verdict() -> None:
    samples = searched()
    texts = set(samples["completion"])
    assert {"A\n\nB\n\n\\boxed{AB}", "B\n\nB\n\n\\boxed{BB}"} <= texts
    pairs = validate(read(SynthesizeSiblings(), samples, None), Preference, "pairs")
    [row] = pairs.to_dicts()
    better, worse = row["chosen"][0]["content"], row["rejected"][0]["content"]
    gaps = {(one, two): SCORES[one] - SCORES[two] for one in SCORES for two in SCORES}
    names = tuple(" ".join(text.partition("{")[2].rstrip("}")) for text in (better, worse))
    assert better[:3] == worse[:3] and row["margin"] == gaps[names] > 0
    assert read(SynthesizeSiblings(margin=0.99), samples, None).is_empty()


def test_a_step_is_worth_what_came_of_it() -> None:
    texts = ["A\n\nA\n\n1", "A\n\nB\n\n7", "A\n\nB\n\n7", "B\n\nC\n\n2", "B\n\nD\n\n2", "C\n\n7"]
    rows = [
        {"problem_key": "k", "problem_id": "p", "sample_index": at, "completion": text, "status": "ok",
         "finish_reason": "stop", "episode": 0, "slot": at}
        for at, text in enumerate(texts)
    ]  # fmt: skip
    samples = pl.DataFrame(rows, schema=polars_schema(Sample), orient="row")
    verdicts = judged(samples, "7")
    found = validate(read(SynthesizeTreeRewards(), samples, verdicts), StepReward, "steps")
    told = {tuple(step.strip() for step in row["completions"]): row["labels"] for row in found.to_dicts()}
    assert told == {
        ("A", "A", "1"): [True, False, False], ("A", "B", "7"): [True, True, True],
        ("B", "C", "2"): [False] * 3, ("B", "D", "2"): [False] * 3,
    }  # fmt: skip
    found = read(SynthesizeTreeRewards(threshold=0.6, shared=False, per_problem=1), samples, verdicts)
    assert found["labels"].to_list() == [[False, True, True]]


@pytest.mark.parametrize("kind", [*playing.KINDS, *literature.KINDS], ids=playing.named)
def test_every_strategy_gives_rows_to_train_on_that_lead_to_their_calls(kind: dict[str, Any]) -> None:
    """The chosen row of an episode that found something is an SFT row; its text ends with what its call wrote."""
    engine = (literature.Babbling if kind in literature.KINDS else playing.Wild)()
    at = setting(engine, index=3)
    samples = drawn(playing.made(kind), at)
    told = json.loads(samples["episode_facts"].drop_nulls()[0])
    verdicts = judged(samples, "")
    for operator in (SynthesizeSft(max_tokens=None), SynthesizeSft(conversation="whole")):
        rows = validate(read(operator, samples, verdicts), Sft, "sft")
        finished = samples.filter(pl.col("status") == "ok", pl.col("finish_reason").is_in(["stop", "stop_string"]))
        finished = finished.filter(~pl.col("completion").str.contains("<think>"))  # a thought that may never end
        assert len(rows) <= 4 and (
            len(rows) > 0 or finished.is_empty() or not finished["completion"].str.len_chars().max()
        )
        for lineage in map(json.loads, rows["lineage"]):
            row = samples.row(lineage["sample_index"] - samples["sample_index"][0], named=True)
            [calls] = [at.journal.find(call.partition(":")[0]) for call in [told["ends"][row["slot"]]] if call] or [[]]
            assert row["episode"] == 3 and (calls or told["ends"][row["slot"]] is None)
    pairs = validate(read(SynthesizeSiblings(), samples, judged(samples, "7")), Preference, "pairs")
    for lineage in map(json.loads, pairs["lineage"]):
        assert lineage["episode"] == 3 and lineage["chosen"] != lineage["rejected"]
    validate(read(SynthesizeTreeRewards(shared=False), samples, judged(samples, "7")), StepReward, "steps")


def test_a_recursion_of_reflections_is_one_conversation() -> None:
    """PRefLexOR's: thought and reflection, the thought improved by it and answered anew, and all integrated."""
    texts = (
        "<thinking>one</thinking><reflect>too short</reflect>1", "<thinking>one, two</thinking>",
        "<reflect>still</reflect>\\boxed{2}", "three", "\\boxed{7}", "so \\boxed{7}",
    )  # fmt: skip
    at, _ = scripted(in_turn(*texts))
    samples = drawn(Reflect(rounds=2), at)
    [row] = read(SynthesizeSft(conversation="whole"), samples, judged(samples, "{7}")).to_dicts()
    roles = [turn["role"] for turn in row["messages"]]
    said = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    assert roles == ["user", "assistant"] * 4
    assert "too short" in said[0] and said[1].startswith("<thinking>one, two</thinking>") and "still" in said[1]
    assert said[2].startswith("<thinking>three</thinking>") and said[3] == "so \\boxed{7}"
    asked = [turn["content"] for turn in row["messages"] if turn["role"] == "user"]
    assert asked[1] == asked[2] == Reflect().demand and "\\boxed{2}" in asked[3]
    at, _ = scripted(in_turn(*texts))
    rounds = drawn(Reflect(rounds=2, every=True), at)
    pairs = validate(read(SynthesizeSiblings(), rounds, judged(rounds, "{7}")), Preference, "pairs")
    assert "{7}" in pairs["chosen"][0][0]["content"] and "{7}" not in pairs["rejected"][0][0]["content"]


def test_draws_that_differ_make_traces_of_trial_and_error() -> None:
    """T1's: what was kept for being different has wrong attempts for a right one."""
    at, _ = scripted(in_turn(*(f"so \\boxed{{{number}}}" for number in (7, 7, 3, 7, 5, 7))))
    samples = drawn(Oversample(draws=6, keep=3), at)
    verdicts = judged(samples, "{7}")
    sft = read(SynthesizeSft(), samples, verdicts)
    operator = SynthesizeTrialAndError(share=1.0, attempts=2)
    tables = {"sft": sft, "samples": samples, "verdicts": verdicts}
    found = operator.run(**{name: tables[name].select(columns.names) for name, columns in operator.inputs.items()})
    text = validate(found, Sft, "sft")["messages"][0][-1]["content"]
    assert text.endswith("so \\boxed{7}") and ("3" in text or "5" in text) and len(text) > 20
    lineage = json.loads(found["lineage"][0])
    assert lineage["sample_index"] == 0 and lineage["transformations"][0]["operator"].startswith("synthesize.trial")
