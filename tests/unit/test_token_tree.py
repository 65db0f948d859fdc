"""Searches by tokens: the same as a search that goes through everything by hand, and what each rule of it does."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cluster.engines.scripted_tokens import ScriptedTokens
from cluster.engines.token_tree import Next, grow, probable
from operators.engine import EngineError
from operators.token_tree import Tree, TreeRequest

VOCABULARY, END, UNSEEN = 7, 0, 5
REQUEST = TreeRequest("p q r", "", 3, 0.8, 1.0, 2, 6, -1024.0)


class Seeded:
    """A model of seven tokens, whose logits and rewards are drawn by the sequence so far; rewards are often equal."""

    ends = (END,)

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sequences: list[tuple[int, ...]] = []
        self.asked: list[tuple[int, ...]] = []
        self.scorer_read = 0

    def row(self, sequence: tuple[int, ...]) -> tuple[list[float], list[float]]:
        draws = random.Random(f"{self.seed}/{sequence}")
        logits = [2.0 * draws.gauss(0.0, 1.0) for _ in range(VOCABULARY)]
        rewards = [round(draws.gauss(0.0, 1.0), 1) for _ in range(VOCABULARY)]
        return logits, [math.nan if token == UNSEEN else reward for token, reward in enumerate(rewards)]

    @property
    def computed(self) -> int:
        return 3 + len(self.asked) - 1

    def begin(self, request: TreeRequest) -> tuple[int, Next]:
        self.sequences = [()]
        return 3, self._next()

    def go_on(self, grown: Sequence[tuple[int, int]]) -> Next:
        self.sequences = [(*self.sequences[place], token) for place, token in grown]
        return self._next()

    def _next(self) -> Next:
        self.asked += self.sequences
        rows = [self.row(sequence) for sequence in self.sequences]
        return Next(np.array([logits for logits, _ in rows]), np.array([rewards for _, rewards in rows]))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(str, tokens))


def by_hand(model: Seeded, request: TreeRequest) -> tuple[list[tuple[str, str, float, float]], int]:
    """Search without anything that is shared or sorted out beforehand; return the finals, and the tokens written."""
    live: list[tuple[tuple[int, ...], float, float]] = [((), 0.0, 0.0)]
    ended: list[tuple[tuple[int, ...], float, float]] = []
    written = 0
    for length in range(request.max_tokens):
        pool = list(ended)
        for sequence, _, so_far in live:
            logits, rewards = model.row(sequence)
            whole = math.log(sum(map(math.exp, logits)))
            allowed = [token for token in range(VOCABULARY) if token != END or length >= request.min_tokens]
            tempered = {token: math.exp(logits[token] / request.temperature) for token in allowed}
            left = request.top_p * sum(tempered.values())
            for token in sorted(allowed, key=lambda token: -tempered[token]):
                reward = request.unseen if math.isnan(rewards[token]) else rewards[token]
                pool.append(((*sequence, token), reward, so_far + logits[token] - whole))
                left -= tempered[token]
                if left <= 0.0:
                    break
        kept = sorted(pool, key=lambda one: (-one[1], -one[2], one[0]))[: request.width]
        written += sum(one not in ended for one in kept)
        ended = [one for one in kept if one[0][-1] == END]
        live = [one for one in kept if one[0][-1] != END]
        if not live:
            break
    told = [(model.text(one[0][:-1]), "stop", one[1], one[2]) for one in ended]
    return told + [(model.text(one[0]), "length", one[1], one[2]) for one in live], written


@pytest.mark.parametrize("width", [1, 2, 3, 8, 40])
def test_it_finds_what_a_search_by_hand_finds(width: int) -> None:
    endings: set[str] = set()
    for seed in range(60):
        draws = random.Random(seed)
        request = replace(
            REQUEST, width=width, top_p=draws.choice((0.5, 0.8, 1.0)), temperature=draws.choice((0.5, 1.0, 2.0)),
            min_tokens=draws.randrange(4), max_tokens=draws.randrange(1, 7),
        )  # fmt: skip
        model = Seeded(seed)
        tree = grow(model, request)
        found = [(one.text, one.finish, one.reward, pytest.approx(one.sum_logprob)) for one in tree.finals]
        wanted, written = by_hand(Seeded(seed), request)
        assert found == wanted and tree.took.written == written
        assert len(set(model.asked)) == len(model.asked), "no sequence goes through the model twice"
        assert tree.took.passes == len(model.asked) and tree.took.computed == tree.took.read + len(model.asked) - 1
        most = request.most(3)
        for name in ("read", "written", "passes", "scorer_read", "computed"):
            assert getattr(tree.took, name) <= getattr(most, name)
        assert 1 <= len(tree.finals) <= width
        endings |= {one.finish for one in tree.finals}
    assert endings == {"stop", "length"}


def search(table: dict[str, dict[str, tuple[float, float | None]]], **changes: Any) -> Tree:
    return grow(ScriptedTokens(table), replace(REQUEST, prompt="Q", **{"min_tokens": 0, **changes}))


def texts(tree: Tree) -> list[tuple[str, str, float]]:
    return [(one.text, one.finish, one.reward) for one in tree.finals]


def test_one_sequence_is_greedy_on_rewards_not_on_probability() -> None:
    table = {
        "Q": {"a ": (0.6, 0.1), "b ": (0.4, 0.2)},
        "b ": {"a ": (0.3, 0.9), "": (0.7, 0.3)},
        "a ": {"": (1.0, 0.5)},
    }
    tree = search(table, width=1)
    assert texts(tree) == [("b a ", "stop", 0.5)]
    assert tree.finals[0].sum_logprob == pytest.approx(math.log(0.4) + math.log(0.3))
    assert texts(search(table, width=1, temperature=0.0)) == [("a ", "stop", 0.5)], "the most probable token alone"
    assert texts(search(table, width=1, top_p=0.5)) == [("a ", "stop", 0.5)], "the other one isn't probable enough"


def test_ended_texts_compete_by_reward_and_the_best_one_is_first() -> None:
    table = {
        "Q": {"": (0.2, 0.6), "a ": (0.4, 0.7), "b ": (0.4, 0.5)},
        "a ": {"": (0.5, 0.4), "a ": (0.5, 0.3)},
        "b ": {"": (1.0, 0.99)},
    }
    assert texts(search(table, width=3, top_p=1.0)) == [("b ", "stop", 0.99), ("", "stop", 0.6), ("a ", "stop", 0.4)]
    # of two the second text, which would have become the best, had no place; a worse ending makes room for nobody
    assert texts(search(table, width=2, top_p=1.0)) == [("", "stop", 0.6), ("a ", "stop", 0.4)]


def test_no_text_ends_before_it_may_unless_there_is_nothing_else_to_say() -> None:
    table = {"": {"": (0.9, 9.0), "a ": (0.1, 0.1)}}
    for least in range(6):
        [one] = search(table, width=1, min_tokens=least).finals
        assert (one.text, one.finish, one.tokens) == ("a " * least, "stop", least + 1)
    assert texts(search(table, width=1, min_tokens=9)) == [("a " * 6, "length", 0.1)]
    assert texts(search({"": {"": (1.0, 0.5)}}, width=1, min_tokens=3)) == [("", "stop", 0.5)]


def test_tokens_that_were_not_seen_are_kept_only_for_want_of_others() -> None:
    table = {
        "Q": {"a ": (0.5, None), "b ": (0.25, -5.0), "c ": (0.25, -9.0)},
        "a ": {"": (1.0, 8.0)},
        "b ": {"": (1.0, 1.0)},
        "c ": {"": (1.0, 2.0)},
    }
    assert texts(search(table, width=2, top_p=1.0)) == [("c ", "stop", 2.0), ("b ", "stop", 1.0)]
    assert texts(search(table, width=1, top_p=0.4)) == [("a ", "stop", 8.0)], "nothing else is probable enough"
    assert texts(search(table, width=2, top_p=1.0, unseen=0.0))[0] == ("a ", "stop", 8.0)
    alone = {"Q": {"": (0.9, None), "a ": (0.1, -7.0)}, "a ": {"": (1.0, -7.0)}}
    assert texts(search(alone, width=2, top_p=1.0))[0] == ("a ", "stop", -7.0)
    assert texts(search(alone, width=1)) == [("", "stop", -1024.0)]


def test_a_search_that_nobody_waits_for_ends_with_its_round() -> None:
    model, rounds = Seeded(1), iter([False, True])
    tree = grow(model, replace(REQUEST, min_tokens=6), lambda: next(rounds))
    assert {one.tokens for one in tree.finals} == {2}


def test_the_most_probable_tokens_that_reach_top_p() -> None:
    logprobs = np.log(np.array([0.1, 0.4, 0.1, 0.4, 1e-12]))
    assert probable(logprobs, 0.8, 1.0).tolist() == [1, 3]
    assert probable(logprobs, 0.81, 1.0).tolist() == [1, 3, 0]
    assert probable(logprobs, 1.0, 1.0).tolist() == [1, 3, 0, 2, 4]
    assert probable(logprobs, 0.01, 1.0).tolist() == [1]
    assert probable(logprobs, 1.0, 0.0).tolist() == [1]
    many = np.random.default_rng(3).normal(0.0, 3.0, 5000)
    for top_p in (0.3, 0.8, 0.99):
        ranked = np.argsort(-many, kind="stable")
        chances = np.exp(many[ranked]) / np.exp(many).sum()
        enough = next(count for count in range(1, 5001) if chances[:count].sum() >= top_p)
        assert probable(many, top_p, 1.0).tolist() == ranked[:enough].tolist()


class Numbers(Seeded):
    """Says the same behind every sequence."""

    def __init__(self, logits: Sequence[float], rewards: Sequence[float]) -> None:
        super().__init__(0)
        self.same = [*logits], [*rewards]

    def row(self, sequence: tuple[int, ...]) -> tuple[list[float], list[float]]:
        return self.same


def test_a_reward_that_is_no_number_counts_as_unseen() -> None:
    asked = replace(REQUEST, width=VOCABULARY, top_p=1.0, min_tokens=0, max_tokens=1)
    found = grow(Numbers([0.0] * 7, [math.inf, -math.inf, math.nan, 1.0, 2.0, 3.0, -9.0]), asked).finals
    assert sorted(one.reward for one in found) == [-1024.0, -1024.0, -1024.0, -9.0, 1.0, 2.0, 3.0]


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(EngineError, match="aren't numbers"):
        grow(Numbers([math.nan] * 7, [0.0] * 7), REQUEST)
