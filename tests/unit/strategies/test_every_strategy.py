"""What every strategy promises: rows, paths and bills that depend neither on timing nor on interruptions."""

from __future__ import annotations

import random
from typing import Any

import pytest

from operators.strategies.calls import MemoryJournal
from operators.strategies.names import STRATEGIES
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
    prefixes = [set(paths[:count]) for count in range(0, len(paths) + 1, max(1, len(paths) // 6))]
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
