"""What every strategy promises: rows, paths and bills that depend neither on timing nor on interruptions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from operators.load import Load
from operators.sample.sampling import Sampling
from operators.strategies.calls import MemoryJournal
from operators.strategies.names import STRATEGIES
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from tests.unit.strategies import literature, playing
from tests.unit.strategies.literature import Babbling
from tests.unit.strategies.playing import Wild, facts, made, named, played, setting

KINDS = [*playing.KINDS, *literature.KINDS]
kinds = pytest.mark.parametrize("kind", KINDS, ids=named)


def engine(kind: dict[str, Any], *args: Any, **more: Any) -> Wild:
    """Return an engine that says what a strategy reads."""
    return (Babbling if kind in literature.KINDS else Wild)(*args, **more)


def test_every_registered_strategy_is_tested() -> None:
    assert {kind["name"] for kind in KINDS} == set(STRATEGIES)


@kinds
def test_rows_and_paths_do_not_depend_on_when_answers_come(kind: dict[str, Any]) -> None:
    strategy, found = made(kind), []
    for _ in range(50):
        at = setting(engine(kind, shuffled=True), index=1)
        rows = played(strategy, at)
        found.append((rows, sorted(call.call for call in at.journal)))  # pyright: ignore
    assert all(other == found[0] for other in found[1:])
    rows = found[0][0]
    assert len(rows) == strategy.rows
    assert [row["sample_index"] for row in rows] == list(range(strategy.rows, 2 * strategy.rows))
    assert sum(row["chosen"] for row in rows) == 1 and all(row["episode"] == 1 for row in rows)


@kinds
def test_an_episode_goes_on_from_whatever_its_journal_has(kind: dict[str, Any]) -> None:
    strategy, whole = made(kind), setting(engine(kind))
    rows = played(strategy, whole)
    journal: MemoryJournal = whole.journal  # pyright: ignore
    paths = list(dict.fromkeys(call.call.partition(":")[0] for call in journal))
    done = {call.call for call in journal if call.kind == "tool"}  # no engine is asked for these
    draws = random.Random(5)
    prefixes = [set(paths[:count]) for count in range(len(paths) + 1)]
    subsets = [{path for path in paths if draws.random() < share} for share in (0.2, 0.5, 0.8)]
    for kept in [*prefixes, *subsets]:
        fresh = engine(kind)
        again = played(strategy, setting(fresh, [one for one in journal if one.call.partition(":")[0] in kept]))
        assert sorted(fresh.asked) == sorted(set(paths) - kept - done)
        assert again == rows


@kinds
@pytest.mark.parametrize("index", range(3))
def test_the_worst_case_is_one(kind: dict[str, Any], index: int) -> None:
    strategy = made(kind)
    for most in (True, False):
        rows = played(strategy, setting(engine(kind, most), index=index))
        told, worst = facts(rows), strategy.worst(1, 24)
        read, cached, written = (sum(took) for took in zip(*told["roles"].values(), strict=True))
        assert set(told["roles"]) <= {"policy", "scorer"}  # the engines that there are
        assert read == told["prompt_tokens"] + told["scorer_tokens"]
        assert (cached, written) == (told["cached_prompt_tokens"], told["completion_tokens"])
        assert told["calls"] <= worst.calls
        assert told["prompt_tokens"] <= worst.prompt_tokens
        assert told["completion_tokens"] <= worst.completion_tokens
        assert told["scorer_passes"] <= worst.passes
        assert told["scorer_tokens"] <= worst.scorer_tokens
        longest = worst.completion_tokens if kind["name"] == "workers" else 24 + 512 * ("list" in kind.values())
        assert all(row["completion_tokens"] <= longest for row in rows)


@kinds
def test_no_cap_is_passed_and_a_capped_episode_ends(kind: dict[str, Any]) -> None:
    free = facts(played(made(kind), setting(engine(kind))))
    tokens = free["prompt_tokens"] + free["completion_tokens"] + free["scorer_tokens"]
    caps = {"cap_calls": free["calls"], "cap_tokens": tokens, "cap_scores": free["scorer_passes"]}
    for name, most in caps.items():
        for share in (0.3, 0.6):
            cap = int(most * share)
            if cap == 0:
                continue
            strategy = made(kind | {name: cap})
            first, second = [played(strategy, setting(engine(kind, shuffled=True))) for _ in range(2)]
            told = facts(first)
            spent = {
                "cap_calls": told["calls"],
                "cap_tokens": told["prompt_tokens"] + told["completion_tokens"] + told["scorer_tokens"],
                "cap_scores": told["scorer_passes"],
            }
            assert spent[name] <= cap and told["ended_by"] == "cap"
            assert first == second and len(first) == strategy.rows


@kinds
def test_refusals_end_paths_and_not_the_episode(kind: dict[str, Any]) -> None:
    strategy = made(kind)
    for index in range(4):
        rows = played(strategy, setting(engine(kind, refuse=0.3), index=index))
        assert len(rows) == strategy.rows and sum(row["chosen"] for row in rows) == 1
    rows = played(strategy, setting(engine(kind, refuse=1.0)))
    assert {row["status"] for row in rows} == {"error"} and rows[0]["error"] == "refused"


@kinds
def test_an_identity_is_that_of_all_that_changes_results(kind: dict[str, Any]) -> None:
    strategy = made(kind)
    assert strategy.id() == made(kind | {"live": 3}).id()
    assert strategy.id() != made(kind | {"cap_calls": 5}).id()
    if "scorer" in type(strategy).model_fields:
        assert strategy.id() != made(kind | {"scorer": {"name": "constant", "value": 0.25}}).id()
    if "rule" in type(strategy).model_fields:
        assert strategy.id() != made(kind | {"rule": {"max_steps": 7}}).id()


@kinds
def test_an_episode_at_temperature_0_is_the_only_one(kind: dict[str, Any]) -> None:
    """What is greedy asks nothing above temperature 0; and only one episode of it is taken."""
    strategy = made(kind)
    many, one = (Sampling(temperature=0.0, max_tokens=24, n=n * strategy.rows, strategy=strategy) for n in (2, 1))
    one.refuse_equal_episodes()
    if not strategy.all_greedy(0.0):
        many.refuse_equal_episodes()
        return
    with pytest.raises(BadInput, match=rf"sample\.n to {strategy.rows} "):
        many.refuse_equal_episodes()
    warm: list[float] = []

    class Listening(type(engine(kind))):  # type: ignore[misc]
        async def generate(self, request: Any) -> Any:
            warm.append(request.params.temperature)
            return await super().generate(request)

    try:
        played(strategy, setting(Listening(), temperature=0.0))
    except BadInput as error:
        assert "same completion several times" in str(error)
    assert not any(warm)


def test_the_stage_refuses_equal_episodes_before_any_is_played(tmp_path: Path) -> None:
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source=str(tmp_path / "problems.jsonl")))
    greedy = Sampling(n=3, temperature=0.0, strategy=made({"name": "revise"}))
    with pytest.raises(
        BadInput, match=r"stage sample: strategy revise .* sample\.n = 3 asks for 3; set sample\.n to 1"
    ):
        pipeline.stage("sample", greedy, engine=ScriptedSpec(answers=("1",)), problems=problems)
    pipeline.stage("sample", greedy.model_copy(update={"n": 1}), engine=ScriptedSpec(answers=("1",)), problems=problems)


def test_a_particle_filter_goes_on_from_every_prefix_of_its_journal() -> None:
    """Generated and scored calls in the order in which they came: whatever was written last, the rows are the same."""
    resumed = 0
    for kind in ({"ended": "kept", "weights": "ratio", "select": "draw"}, {"resampling": "systematic"}):
        strategy = made({"name": "particles", "width": 4, "rule": playing.SMALL, "scorer": "prm", **kind})
        for index in range(3):
            whole = setting(Wild(), index=index)
            rows = played(strategy, whole)
            calls = list(whole.journal)  # pyright: ignore
            assert {call.kind for call in calls} == {"generate", "score"}
            for count in range(len(calls) + 1):
                fresh = Wild()
                assert played(strategy, setting(fresh, calls[:count], index=index)) == rows
                assert sorted(fresh.asked) == sorted(call.call for call in calls[count:])
                resumed += 1
    assert resumed > 100
