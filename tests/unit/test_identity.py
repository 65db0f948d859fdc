"""Identities: what changes them, what doesn't, and how a change is named."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
import pytest
from pydantic import BaseModel

from operators.load import Load
from operators.sample.sampling import Example, Sampling
from operators.score.outcome import ScoreOutcome
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from pipelines.identity import sampling_fingerprint, snapshot_view, store_folder
from schemas.conversation import turns_dtype
from schemas.engine import EngineSpec, LlamaCppSpec, SamplingParams, ScriptedSpec
from schemas.identity import Added, ExecutionKeys, difference, digest, digest_of, identity, problem_keys, sample_seed
from schemas.messages import conversations_of


def known(spec: EngineSpec) -> tuple[str, str]:
    """Resolve without looking: the same weights always."""
    return "model", "revision"


def fingerprint(sample: Sampling, engine: ScriptedSpec | LlamaCppSpec) -> str:
    pipeline = Pipeline("any name")
    problems = pipeline.stage("load", Load(source="x.jsonl"))
    stage = pipeline.stage("draw", sample, engine=engine, problems=problems)
    return digest(sampling_fingerprint(stage, known))


@pytest.mark.parametrize(
    "change",
    [{"n": 7}, {"retries": 9}],
)
def test_how_many_and_how_often_are_not_identity(change: dict[str, int]) -> None:
    assert fingerprint(Sampling(), ScriptedSpec()) == fingerprint(Sampling().model_copy(update=change), ScriptedSpec())


def test_execution_of_an_engine_is_not_identity() -> None:
    one, other = LlamaCppSpec(), LlamaCppSpec(slots=3, context=99, threads=1, replicas=2, cpus=2.0, gpus=1.0)
    assert identity(one) == identity(other)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"max_tokens": 9},
        {"stop": ("x",)},
        {"seed": 1},
        {"template": "Q: {prompt}"},
        {"system": "be brief"},
        {"few_shot": (Example(prompt="1+1", completion="2"),)},
        {"chat": False},
    ],
)
def test_whatever_changes_a_text_is_identity(change: dict[str, object]) -> None:
    assert fingerprint(Sampling(), ScriptedSpec()) != fingerprint(Sampling().model_copy(update=change), ScriptedSpec())


def test_a_change_is_named() -> None:
    old, new = {"sample": Sampling(temperature=0.8).fingerprint()}, {"sample": Sampling(temperature=1.0).fingerprint()}
    assert difference(old, new) == ["sample.temperature 0.8 -> 1.0"]


def test_a_problem_is_what_its_prompt_and_its_check_depend_on() -> None:
    base = {"problem_id": "1", "prompt": "2+2?", "answer": "4", "metadata": '{"a": 1}'}
    rows = [base, {**base, "problem_id": "2", "metadata": None}, {**base, "answer": "5"}, {**base, "prompt": "3+3?"}]
    keys = problem_keys(pl.DataFrame(rows)).to_list()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_seeds_depend_on_base_problem_and_index_and_stay_in_range() -> None:
    seeds = [sample_seed(base, key, index) for base in (0, 1) for key in ("a", "b") for index in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sample_seed(0, "a", 0) == sample_seed(0, "a", 0)


def test_known_values_stay_as_they_are() -> None:
    """Stored data is found by these: a change here orphans every store there is."""
    assert digest({"a": [1, "ü"]}) == "c6af382018a7515b966d9312de0ae19b"
    assert sample_seed(0, "k", 1) == 746322836


def test_stores_and_views_have_addresses_of_their_own() -> None:
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source="x.jsonl"))
    samples = pipeline.stage("sample", Sampling(), engine=ScriptedSpec(), problems=problems)
    exact = pipeline.stage("exact", VerifyExact(), problems=problems, samples=samples)
    loose = pipeline.stage("loose", VerifyExact(ignore_punctuation=True), problems=problems, samples=samples)
    sampling = sampling_fingerprint(samples, known)
    folders = [store_folder(stage, sampling, known) for stage in (samples, exact, loose)]
    assert len(set(folders)) == 3
    assert folders[0] == f"samples/{digest(sampling)}"
    assert folders[1].startswith(f"verdicts/{digest(sampling)}/")
    assert snapshot_view(exact, {"samples": "v1"}, known) != snapshot_view(exact, {"samples": "v2"}, known)


def test_a_field_that_came_later_changes_no_identity_while_it_has_its_default() -> None:
    class Before(BaseModel):
        model: str = "m"

    class After(BaseModel):
        model: str = "m"
        guide: Annotated[str | None, Added] = None

    assert identity(After()) == identity(Before())
    assert identity(After(guide="x")) == {"model": "m", "guide": "x"}


def test_of_passed_on_arguments_those_that_only_say_how_are_left_out() -> None:
    class Spec(BaseModel):
        arguments: Annotated[dict[str, Any], ExecutionKeys({"memory"})] = {}

    assert identity(Spec(arguments={"memory": 0.9, "rope": 2})) == {"arguments": {"rope": 2}}
    assert identity(Spec(arguments={"memory": 0.5})) == identity(Spec())


def test_the_identities_of_samples_that_were_drawn_before_guides_came_are_what_they_were() -> None:
    # frozen: a changed hash here means that every paid sample is drawn again
    assert digest(identity(SamplingParams(temperature=0.8))) == "eb61f4cf0a97b15c7a4a5b740fc926ce"
    assert digest(identity(LlamaCppSpec())) == "5854eae698f75d1b0d382429b252ea26"


def test_a_reward_models_weights_are_the_identity_of_its_scores_wherever_they_lie() -> None:
    def folder(model: str, revision: str) -> str:
        pipeline = Pipeline("scored")
        problems = pipeline.stage("load", Load(source="x.jsonl"))
        samples = pipeline.stage("draw", Sampling(), engine=ScriptedSpec(), problems=problems)
        spec = ScriptedSpec(model=model)
        scores = pipeline.stage("score", ScoreOutcome(), engine=spec, problems=problems, samples=samples)
        return store_folder(scores, {}, lambda _: ("reward", revision))

    assert folder("/here", "one") == folder("/there", "one") != folder("/here", "two")


def test_keys_are_hashes_of_canonical_json_whatever_the_texts_hold() -> None:
    odd = ['"\\\n\t\r\b\f/', "\x00\x01\x1f\x7f", "\u2028\u2029\ufffd", "é😀<&>", ""]
    turns = [None, [], [{"role": "user", "content": odd[0]}, {"role": "assistant", "content": odd[1]}], None, None]
    calls = [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]
    for last in (turns[2], calls):  # plain conversations are hashed by columns, others row by row
        messages = [*turns[:4], last]
        said = pl.Series("messages", conversations_of(messages), dtype=turns_dtype())
        table = pl.DataFrame({"prompt": odd, "answer": [None, *odd[1:]], "task_type": "math"}).with_columns(said)
        rows = [
            {
                "prompt": prompt,
                "messages": turn and [{k: v for k, v in one.items() if v is not None} for one in turn],
                "answer": answer,
                "task_type": "math",
                "verification": None,
            }
            for prompt, turn, answer in table.select("prompt", "messages", "answer").iter_rows()
        ]
        assert problem_keys(table).to_list() == [digest(row) for row in rows]


@pytest.mark.parametrize("values", [[], [[]], [[1.5, None], [0.0, -2.25]], [{"b": 1, "a": "é"}, "text"]])
def test_a_digest_of_many_values_needs_no_list(values: list[Any]) -> None:
    assert digest_of(iter(values)) == digest(values)
