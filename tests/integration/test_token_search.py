"""Searches by tokens on the embedded model, and in runs: what they find, compute once, and are paid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.engines.llama_cpp import find_model
from cluster.engines.llama_memory import Memory
from cluster.engines.llama_tree import Head, LlamaTrees, TreeThread
from cluster.engines.never_sent import NeverSent
from cluster.engines.token_tree import Next
from operators.engine import EngineError, Request, ScoreRequest
from operators.load import Load
from operators.policies.named import UniformSpec
from operators.sample.episodes import play
from operators.sample.sampling import Sampling
from operators.strategies.saffron import Saffron
from operators.token_tree import Grown, Took, Tree, TreeRequest
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.engine import LlamaCppSpec, SamplingParams, ScriptedSpec
from schemas.errors import BadInput
from tests.engines import Running, running
from tests.integration.test_episodes import calls_of, counted
from tests.support import QUICK, make_runner, run, write_problems
from tests.unit.strategies.playing import setting

SPEC = LlamaCppSpec(slots=2, context=96)
PROMPT = "The capital of France is"
SIZE, VOCABULARY = 576, 49_152
NEAR = 0.1
"""Sums depend on what shares a batch: an eighth of what rewards differ by here."""


@pytest.fixture(scope="module")
def model() -> Path:
    return find_model(SPEC.model)


@pytest.fixture(scope="module")
def engine() -> Iterator[Running]:
    with running(SPEC) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "rewards.npz"
    draws = np.random.default_rng(7)
    weight = draws.normal(0.0, 0.02, (VOCABULARY, SIZE)).astype(np.float32)
    np.savez(path, weight=weight, bias=draws.normal(0.0, 0.1, VOCABULARY), seen=draws.random(VOCABULARY) < 0.7)
    return path


class Noting(LlamaTrees):
    """Notes the tokens of what a search found, and how many llama.cpp itself says that it computed."""

    def begin(self, request: TreeRequest) -> tuple[int, Next]:
        found = super().begin(request)
        assert self._policy is not None
        self.prompt = list[int](self._policy.vocabulary.tokenize(request.prompt + request.prefix, True, True))
        return found

    def text(self, tokens: Sequence[int]) -> str:
        self.found = [*getattr(self, "found", []), list(tokens)]
        return super().text(tokens)

    @property
    def counted(self) -> list[int]:
        told = [memory._context.get_perf_data() for memory in self._memories]
        return [one["n_p_eval"] + one["n_eval"] for one in told]


def alone(path: Path, tokens: Sequence[int], hidden: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Compute a sequence in a memory of its own; return the logits behind it, and the last hidden state."""
    memory = Memory(path, threads=2, hidden=hidden)
    memory.clear(len(tokens), 1)
    logits, states = memory.read(tokens)
    memory.close()
    return logits[0], None if states is None else states[0]


def request(rewards: Path | str, width: int = 4, tokens: int = 10, least: int = 3, top_p: float = 0.8) -> TreeRequest:
    return TreeRequest(PROMPT, str(rewards), width, top_p, 1.0, least, tokens, -1024.0)


def searched(trees: Noting, asked: TreeRequest) -> list[tuple[Grown, list[int]]]:
    """Carry out a search; return what it found with all its tokens, the end's included."""
    trees.found = []
    tree = trees.grow(asked)
    took, shared = tree.took, tree.took.computed
    prompt = took.read
    assert prompt == len(trees.prompt) and shared == prompt + took.passes - 1 <= asked.most(prompt).computed
    # by llama.cpp's own count: the prompt once, and then one token for each text that went on (it counts tokens that
    # are decoded alone apart, and never says that there was none of them)
    assert all(shared <= counted <= shared + 1 for counted in trees.counted)
    assert len(trees.counted) == 1 + asked.has_scorer
    assert took.scorer_read == shared * asked.has_scorer
    assert shared < len(tree.finals) * prompt + sum(one.tokens for one in tree.finals), "what texts share, once"
    assert len({one.text for one in tree.finals}) == len(tree.finals) == asked.width
    return list(zip(tree.finals, trees.found, strict=True))


def test_a_head_on_hidden_states_rewards_what_the_texts_are_alone(model: Path, head: Path) -> None:
    trees = Noting(model, 96, 2, lambda tokens: " ".join(map(str, tokens)))
    asked = request(head)
    found = searched(trees, asked)
    rewards = Head(head, VOCABULARY, SIZE)
    seen = np.load(head)["seen"]
    for one, tokens in found[:2]:
        assert one.finish == "length" and one.tokens == len(tokens) == 10 and seen[tokens].all()
        _, state = alone(model, [*trees.prompt, *tokens[:-1]], hidden=True)
        assert state is not None
        predicted = rewards.rewards(state[None])[0]
        assert one.reward == pytest.approx(float(predicted[tokens[-1]]), abs=NEAR)
    again = trees.grow(asked)
    assert [one.text for one in again.finals] == [one.text for one, _ in found]
    trees.close()


def test_a_gguf_model_rewards_next_tokens_with_its_logits(model: Path, engine: Running) -> None:
    trees = Noting(model, 96, 2, engine.engine._spell)
    found = searched(trees, request(model, width=3, tokens=8))
    for one, tokens in found[:2]:
        logits, _ = alone(model, [*trees.prompt, *tokens[:-1]], hidden=False)
        assert one.reward == pytest.approx(float(logits[tokens[-1]]), abs=NEAR * 3)
    trees.close()
    one, _ = found[0]  # the server's likelihood of the text, token by token, is another way to the same number
    likely = engine.do(engine.engine.score(ScoreRequest(PROMPT, one.text, "likelihood")))
    assert len(likely.steps) == one.tokens and likely.score == pytest.approx(one.sum_logprob, abs=0.02 * one.tokens)
    greedy = SamplingParams(max_tokens=8, temperature=0.0)
    [said] = engine.do(engine.engine.generate(Request(PROMPT, greedy, 0)))
    [same] = engine.do(engine.engine.grow_tree(request(model, width=1, tokens=8, least=0, top_p=1.0))).finals
    assert same.text == said.text, "with its own logits as rewards one text is the greedy one"


def test_an_episode_on_the_embedded_model(engine: Running, head: Path) -> None:
    strategy = Saffron(rewards=str(head), width=3, min_new_tokens=2, max_new_tokens=6)
    at = setting(engine.engine, max_tokens=24)
    rows = engine.do(play(strategy, at, "run"))
    worst = strategy.worst(rows[0]["prompt_tokens"], 24)
    assert [row["chosen"] for row in rows] == [True, False, False]
    assert all(2 <= row["completion_tokens"] <= 6 and 0.0 < row["search_score"] < 1.0 for row in rows)
    [whole] = [call for call in at.journal if call.parent_call is None]  # pyright: ignore
    assert whole.values[0] <= worst.passes and whole.completion_tokens <= worst.completion_tokens


def test_files_that_are_no_rewards_of_this_model_are_refused(engine: Running, tmp_path: Path) -> None:
    wrong = {
        "no 'weight'": {"bias": np.zeros(VOCABULARY)},
        "it takes": {"weight": np.zeros((SIZE, 3))},
        "'wieght'": {"wieght": np.zeros(3)},
        "isn't a file of NumPy arrays": {"weight": np.array([{}], dtype=object)},
    }
    for why, arrays in wrong.items():
        np.savez(tmp_path / "rewards.npz", **arrays)  # pyright: ignore[reportArgumentType]
        with pytest.raises(BadInput, match=why):
            engine.do(engine.engine.grow_tree(request(tmp_path / "rewards.npz")))
    for odd in (np.inf, -np.inf, np.nan):
        np.savez(tmp_path / "odd.npz", weight=np.zeros((VOCABULARY, SIZE), np.float32), bias=np.full(VOCABULARY, odd))
        with pytest.raises(BadInput, match="'bias' that aren't finite; what may not be taken isn't 'seen'"):
            Head(tmp_path / "odd.npz", VOCABULARY, SIZE)
    for content in (b"", b"PK\x03\x04 half", b"\x93NUMPY"):
        (tmp_path / "other.npz").write_bytes(content)
        with pytest.raises(BadInput, match="isn't a file of NumPy arrays"):
            Head(tmp_path / "other.npz", VOCABULARY, SIZE)
    (tmp_path / "rewards.gguf").write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"llama\.cpp can't load"):
        engine.do(engine.engine.grow_tree(request(tmp_path / "rewards.gguf")))
    with pytest.raises(EngineError, match="the context has 96"):
        engine.do(engine.engine.grow_tree(request("", tokens=95)))


class Slow:
    """Stands for a model whose searches end when nobody waits for them any more."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def grow(self, asked: TreeRequest, stopped: Callable[[], bool]) -> Tree:
        self.begun.append(asked.request_id)
        while not stopped() and asked.request_id != "short":
            time.sleep(0.001)
        self.ended.append(asked.request_id)
        return Tree((), Took(0, 0, 0, 0, 0))

    def close(self) -> None: ...


def test_a_search_that_is_given_up_lets_the_next_one_in_and_one_that_never_began_costs_nothing() -> None:
    async def work() -> None:
        slow = Slow()
        thread = TreeThread(slow)  # pyright: ignore[reportArgumentType]

        async def told(name: str) -> str:
            try:
                await thread.grow(replace(request(""), request_id=name))
            except NeverSent:
                return "never sent"
            except asyncio.CancelledError:
                return "cut off"
            return "done"

        first, second = (asyncio.ensure_future(told(name)) for name in ("first", "second"))
        while not slow.begun:
            await asyncio.sleep(0.001)
        second.cancel()
        first.cancel()
        assert await asyncio.gather(first, second) == ["cut off", "never sent"]
        assert await told("short") == "done"
        assert (slow.begun, slow.ended) == (["first", "short"], ["first", "short"])
        await thread.close()

    asyncio.run(work())


def pipeline(folder: Path, **engine: object) -> Pipeline:
    source = folder / "problems.jsonl"
    write_problems(source, 10)
    made = Pipeline("searched")
    problems = made.stage("load", Load(source=str(source)))
    strategy = Saffron(width=3, min_new_tokens=1, max_new_tokens=8, top_p=1.0)
    logs = {"call_log": str(folder / "calls"), "token_log": str(folder / "policy.tokens")}
    spec = ScriptedSpec.model_validate({"slots": 4, **logs, **engine})
    sampling = Sampling(n=1, max_tokens=16, strategy=strategy, policy=UniformSpec())
    made.stage("sample", sampling, engine=spec, problems=problems)
    return made


def test_a_cap_holds_over_searches_and_the_rest_is_done_later(tmp_path: Path) -> None:
    root, capped = tmp_path / "root", QUICK.model_copy(update={"budget": Budget(tokens=200)})
    first = run(make_runner("local"), pipeline(tmp_path), root, capped)
    assert first.manifest.state == "budget reached"
    used = counted(tmp_path)["policy"]
    spending = first.manifest.spending
    assert 100 < used <= 200 and spending is not None and spending.tokens == used
    there = first.dataset("sample").collect()
    asked = (tmp_path / "calls").read_text().split()
    assert 0 < there["problem_key"].n_unique() == len(asked) < 10
    whole = run(make_runner("local"), pipeline(tmp_path), root, QUICK)
    assert whole.manifest.state == "done"
    rows, calls = whole.dataset("sample").collect(), calls_of(whole)
    assert len(rows) == 30 and rows["chosen"].sum() == 10
    asked = (tmp_path / "calls").read_text().split()
    assert len(asked) == len(set(asked)) == 10, "each search was asked for once in both runs"
    assert calls["prompt_tokens"].sum() + calls["completion_tokens"].sum() == counted(tmp_path)["policy"]
    assert set(calls["kind"]) == {"search"} and calls["parent_call"].null_count() == 10
