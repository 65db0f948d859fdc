"""The navigator: its size, its gradient, what it learns of a toy, and the rules that hold whatever it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from operators.strategies.navigator import BLOCKS, PARAMETERS, Network, as_text, from_text, read
from operators.strategies.rlot import Rlot
from operators.train.navigator import TrainNavigator, Transitions
from schemas.contract import validate
from schemas.episodes import Navigator
from schemas.errors import BadInput
from tests.unit.strategies.literature import Babbling, scripted
from tests.unit.strategies.playing import chosen, facts, played, setting

GAMMA, CAP = 0.9, 6


def test_it_has_as_many_parameters_as_the_published_one() -> None:
    assert PARAMETERS == 2566 == Network.fresh(0).parameters.size


def test_the_gradient_is_that_of_finite_differences() -> None:
    draws = np.random.default_rng(3)
    network = Network(Network.fresh(1).parameters + 0.01 * draws.normal(size=PARAMETERS))
    states, by_q = draws.integers(-1, 2, (6, 7)).astype(float), draws.normal(size=(6, 5))
    network.q(states)
    found = network.gradient(by_q)
    for at in draws.choice(PARAMETERS, 300, replace=False):
        values = []
        for step in (1e-6, -1e-6):
            moved = network.parameters.copy()
            moved[at] += step
            values.append(float((Network(moved).q(states) * by_q).sum()))
        assert found[at] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


def test_values_are_dueling() -> None:
    network = Network.fresh(2)
    states = np.random.default_rng(0).normal(size=(4, 7))
    values = network.q(states).mean(axis=1)
    hidden = np.maximum(0, states @ network.weights["shared"] + network.biases["shared"])
    hidden = np.maximum(0, hidden @ network.weights["value"] + network.biases["value"])
    assert values == pytest.approx((hidden @ network.weights["value_out"] + network.biases["value_out"])[:, 0])


def _toy(episodes: int, seed: int) -> Transitions:
    """Return what a random navigator does where one bit of the state says which of two blocks pays 1."""
    draws = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for _ in range(episodes):
        state = draws.integers(-1, 2, 7).astype(float)
        for number in range(CAP):
            state[0] = draws.choice((-1.0, 1.0))
            action = int(draws.integers(0, 4))
            then = state.copy()
            then[0] = draws.choice((-1.0, 1.0))
            rows.append((state.copy(), action, float(action == (state[0] > 0)), then, number == CAP - 1))
            state = then
    states, actions, rewards, then, done = zip(*rows, strict=True)
    allowed = np.tile(np.array([True] * 4 + [False]), (len(rows), 1))
    return Transitions(
        np.array(states), allowed, np.array(actions), np.array(rewards), np.array(then), allowed, np.array(done)
    )


def test_it_learns_which_block_pays() -> None:
    network = TrainNavigator(updates=1500).fit(_toy(1500, 0))
    draws = np.random.default_rng(9)
    states = draws.integers(-1, 2, (400, 7)).astype(float)
    states[:, 0] = draws.choice((-1.0, 1.0), 400)
    chosen = [network.best(state.tolist(), range(4)) for state in states]
    share = np.mean([block == (state[0] > 0) for block, state in zip(chosen, states, strict=True)])
    assert share >= 0.95  # rewards come step by step here, so this is the share of the optimal return


def _told(*scores: float, last: int = 4) -> dict[str, Any]:
    note: dict[str, Any] = {"actions": len(scores)}
    for at, score in enumerate(scores):
        note |= {f"state_{at}_{number}": at - 1.0 for number in range(7)}
        note |= {
            f"action_{at}": last if at == len(scores) - 1 else 0,
            f"allowed_{at}": 0b10000 if at == 4 else 0b10001,
            f"score_{at}": score,
        }
    return note


def test_rewards_are_gains_or_scores() -> None:
    found = TrainNavigator().transitions([_told(0.5, 0.8)])
    assert found.rewards == pytest.approx([GAMMA * 0.5 - 0.05, GAMMA * 0.8 - 0.5])
    assert found.done.tolist() == [False, True] and found.actions.tolist() == [0, 4]
    found = TrainNavigator(reward="score", step_cost=0, endless=True).transitions([_told(0.5, 0.8)])
    assert found.rewards == pytest.approx([0.5, 0.8])


def _samples(*notes: dict[str, Any]) -> pl.LazyFrame:
    rows = [
        {"problem_key": f"{at}", "sample_index": 0, "episode_facts": json.dumps({"note": note})}
        for at, note in enumerate(notes)
    ]
    return pl.LazyFrame(rows)


def test_a_reward_that_never_rewards_stopping_is_refused() -> None:
    with pytest.raises(BadInput, match="never to terminate"):
        TrainNavigator(reward="score", step_cost=0).run(_samples(_told(0.5)))
    with pytest.raises(BadInput, match="no sample has transitions"):
        TrainNavigator().run(_samples({"rounds": 1}))


def test_stopping_is_learned_where_it_pays_alone() -> None:
    """With every score alike each further step costs: the best is to stop at once."""
    notes = [_told(*[0.5] * (1 + at % 5)) for at in range(40)]
    stops = TrainNavigator(updates=800).fit(TrainNavigator().transitions(notes))
    state = [-1.0] * 7
    assert stops.best(state, (0, 4)) == 4
    endless = TrainNavigator(updates=800, reward="score", step_cost=0, endless=True)
    assert endless.fit(endless.transitions(notes)).best(state, (0, 4)) == 0


def test_a_trained_navigator_is_known_by_its_content(tmp_path: Path) -> None:
    operator = TrainNavigator(updates=3)
    table = validate(operator.run(_samples(_told(0.5, 0.8))), Navigator, "train")
    assert table.equals(validate(operator.run(_samples(_told(0.5, 0.8))), Navigator, "train"))
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    table.write_parquet(one)
    table.write_parquet(two)
    assert Rlot(navigator=str(one)).id() == Rlot(navigator=str(two)).id() != Rlot().id()
    assert as_text(from_text(read(str(one)))) == read(str(one))
    with pytest.raises(ValueError, match="neither a navigator"):
        Rlot(navigator="nowhere")


def _preferring(block: int) -> str:
    """Return a navigator that always wants one block."""
    network = Network(np.zeros(PARAMETERS))
    network.biases["advantage_out"][block] = 1.0
    return as_text(network)


def test_rules_hold_whatever_the_navigator_says() -> None:
    def say(request: Any) -> str:
        if "Rate it" in request.prompt:
            return "1 2 3 1 2 3 1"
        if "first step of the best" in request.prompt:
            return "it is \\boxed{7}"
        return "\\boxed{8} at last" if "Give the final answer" in request.prompt else "text"

    at, engine = scripted(say)
    rows = played(Rlot(navigator=_preferring(BLOCKS.index("debate"))), at)
    assert facts(rows)["note"]["actions"] == 2 and chosen(rows).endswith("\\boxed{8} at last")
    at, engine = scripted(say)
    rows = played(Rlot(navigator=_preferring(BLOCKS.index("refine")), max_actions=2), at)
    prompts = [one.prompt for one in engine.requests if "Rate it" not in one.prompt]
    assert "Write the next step" in prompts[0] and "Write the last step anew" in prompts[1] and len(prompts) == 3
    assert rows[0]["completion"] == "text\n\n\\boxed{8} at last"
    at, engine = scripted(say)
    rows = played(Rlot(navigator=_preferring(BLOCKS.index("terminate"))), at)
    assert facts(rows)["calls"] == 2


def test_ratings_are_read_leniently_and_asked_for_once_more() -> None:
    at, engine = scripted(lambda request: "none" if "Rate it" in request.prompt else "\\boxed{8}")
    rows = played(Rlot(navigator=_preferring(4)), at)
    assert facts(rows)["note"]["unreadable"] == 2 and len(engine.requests) == 3


def test_drawn_blocks_are_what_it_is_trained_on() -> None:
    notes = []
    for index in range(3):
        one, two = (played(Rlot(scorer="random"), setting(Babbling(), index=index)) for _ in range(2))  # type: ignore[arg-type]
        assert one == two
        notes.append(facts(one)["note"])
    found = TrainNavigator().transitions(notes)
    assert len(found.actions) == sum(note["actions"] for note in notes) and found.done.sum() == 3
