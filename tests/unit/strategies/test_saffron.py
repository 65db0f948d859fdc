"""The search by tokens as a strategy: one call that is kept, paid, capped and told like any other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cluster.engines import build_engine
from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Timeline
from cluster.storage.root import Root
from cluster.working.credit import Credit
from cluster.working.desk import Desk, Meter
from cluster.working.far_engine import FarEngine
from cluster.working.journal import Answers, Journal
from cluster.working.reports import Ready
from cluster.working.serving import Serving
from operators.engine import Engine
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.strategies.saffron import Saffron
from operators.strategies.talking import sigmoid
from operators.token_tree import Tree, TreeRequest
from pipelines.graph import Pipeline
from schemas.engine import LlamaCppSpec, OpenAISpec, ScriptedSpec
from schemas.errors import BadInput
from tests.unit.strategies.playing import Wild, chosen, facts, played, scripted, setting

TABLE: dict[str, dict[str, tuple[float, float | None]]] = {
    "Q": {"one ": (0.5, 1.0), "two ": (0.3, 2.0), "three ": (0.2, None)},
    "one ": {"": (0.9, 3.0), "two ": (0.1, 0.0)},
    "two ": {"": (0.5, -1.0), "one ": (0.5, 0.5)},
}
SMALL = Saffron(width=2, min_new_tokens=1, max_new_tokens=4, top_p=1.0)


def file(path: Path, content: str = "a model") -> str:
    path.write_text(content)
    return str(path)


def test_the_best_ended_text_is_chosen_and_rows_have_probabilities_as_scores() -> None:
    rows = played(SMALL, setting(scripted({}, next_tokens=TABLE)))
    assert chosen(rows) == "one " and [row["completion"] for row in rows] == ["one ", "two one "]
    assert [row["search_score"] for row in rows] == [pytest.approx(sigmoid(3.0))] * 2
    assert [row["completion_tokens"] for row in rows] == [2, 3] and {row["finish_reason"] for row in rows} == {"stop"}
    assert rows[0]["sum_logprob"] == pytest.approx(np.log(0.5 * 0.9))


def test_the_journal_has_what_all_took_and_each_text(tmp_path: Path) -> None:
    rewards = file(tmp_path / "rewards.gguf")
    at = setting(scripted({}, next_tokens=TABLE))
    told = facts(played(SMALL.model_copy(update={"rewards": rewards}), at))
    whole, *finals = at.journal  # pyright: ignore
    assert [call.call for call in (whole, *finals)] == ["0.0", "0.0:0", "0.0:1"]
    assert {call.parent_call for call in finals} == {"0.0"} and {call.kind for call in (whole, *finals)} == {"search"}
    assert [call.text for call in finals] == ["one ", "two one "] and [call.value for call in finals] == [3.0, 3.0]
    # round 1 keeps two texts, round 2 "one " with its end and "two one ", round 3 the end of that
    assert (whole.prompt_tokens, whole.completion_tokens) == (1, 2 + 2 + 1)
    assert whole.values == (1 + 2 + 1, 1 + 2 + 1, 1 + 2 + 1, 2)
    assert (told["calls"], told["scorer_passes"], told["scorer_tokens"]) == (1, 4, 4)
    assert told["roles"] == {"policy": [1 + 4, 0, 5]} and told["note"] == {"computed_tokens": 4}
    assert told["completion_tokens"] == sum(call.completion_tokens for call in (whole, *finals))
    assert told["ends"] == ["0.0:0", "0.0:1"] and told["scores"].keys() == {"0.0:0", "0.0:1"}


def test_it_goes_on_from_every_prefix_of_its_journal() -> None:
    whole = setting(Wild(shuffled=True))
    rows = played(SMALL, whole)
    calls = list(whole.journal)  # pyright: ignore
    assert len(calls) == 3
    for count in range(len(calls) + 1):
        fresh = Wild()
        assert played(SMALL, setting(fresh, calls[:count])) == rows
        assert fresh.asked == ([] if count == len(calls) else ["0.0"]), "a search is there as a whole, or asked again"
    shuffled = [calls[0], *reversed(calls[1:])]
    assert played(SMALL, setting(Wild(), shuffled)) == rows


def test_what_changes_results_is_in_the_identity(tmp_path: Path) -> None:
    one, same, other = (file(tmp_path / f"{name}.npz", text) for name, text in (("a", "x"), ("b", "x"), ("c", "y")))
    assert Saffron(rewards=one).id() == Saffron(rewards=same).id() != Saffron(rewards=other).id() != Saffron().id()
    assert len({Saffron(**{name: 1}).id() for name in ("width", "top_p", "unseen", "min_new_tokens")}) == 4
    for wrong, why in ((str(tmp_path / "d.npz"), "there is no file"), (str(tmp_path), "neither a GGUF model")):
        with pytest.raises(ValidationError, match=why):
            Saffron(rewards=wrong)
    assert Saffron().cautions and not Saffron(rewards=one).cautions


def stage(engine: Any, **fields: Any) -> None:
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source="problems.jsonl"))
    pipeline.stage("sample", Sampling(strategy=SMALL, **fields), engine=engine, problems=problems)


def test_engines_that_can_not_refuse_by_name() -> None:
    with pytest.raises(BadInput, match=r"engine 'openai' can't search by tokens \(strategy saffron\): .*llama_cpp"):
        stage(OpenAISpec(model="m"), n=2)
    for engine in (ScriptedSpec(), LlamaCppSpec()):
        stage(engine, n=2)
        with pytest.raises(
            BadInput, match=r"leaves nothing to chance.* asks for 2; set sample\.n to 2 \(one episode\)$"
        ):
            stage(engine, n=4)

    class Other(Wild):
        grow_tree = Engine.grow_tree

    with pytest.raises(BadInput, match=r"engine 'wild' can't search by tokens: .*llama_cpp does"):
        played(SMALL, setting(Other()))


def test_llama_cpp_without_its_other_binding_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("cyllama", "cluster.engines.llama_")
    for name in [name for name in sys.modules if name.startswith(ours) and name != "cluster.engines.llama_cpp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cyllama", None)

    async def session() -> None:
        engine = build_engine(LlamaCppSpec(slots=1, context=64, threads=1))
        try:
            with pytest.raises(BadInput, match=r"with the package 'cyllama' .*pip install 'cyllama"):
                await engine.grow_tree(REQUEST)
        finally:
            await engine.close()

    asyncio.run(session())


REQUEST = TreeRequest("Q", "", 2, 1.0, 1.0, 1, 4, -1024.0)


def test_a_desk_sets_the_worst_case_apart_and_pays_what_was_taken(tmp_path: Path) -> None:
    request = SMALL.model_copy(update={"rewards": file(tmp_path / "r.gguf")}).request(24, prompt="Q")
    free: list[int] = []

    class Watched(Wild):
        async def grow_tree(self, request: TreeRequest) -> Tree:
            free.append(credit.give_back().tokens)
            return await super().grow_tree(request)

    async def session() -> None:
        desk = Desk(Watched(), meter, retries=0)
        worst = credit.worst(1 + 7, 8)
        assert (request.most(1).read, request.most(1).scorer_read, request.most(1).written) == (1, 7, 8)
        asked = asyncio.ensure_future(desk.grow_tree(request))
        credit.lend(worst - Amount(tokens=1))
        for _ in range(9):
            await asyncio.sleep(0)
        assert credit.first == Amount(tokens=1) and not free, "a token less than the worst case isn't enough"
        credit.lend(Amount(tokens=1))
        took = (await asked).took
        assert meter.bill == Bill(1, took.read + took.scorer_read, 0, took.written, took.passes)
        assert meter.paid.tokens == meter.bill.tokens <= worst.tokens and not meter.lost
        assert free == [0] and credit.give_back() == worst - meter.paid

    credit = Credit(None, 4)
    meter = Meter(Timeline("here"), credit)
    asyncio.run(session())


class There:
    """Where a worker answers others."""

    name = "a"

    def __init__(self) -> None:
        self.serving = Serving(Wild(), Timeline("there"))

    async def call(self, method: Any, *args: Any) -> Any:
        return await getattr(self.serving, method.__name__)(*args)


def test_workers_of_other_nodes_answer_searches_too() -> None:
    async def session() -> None:
        engine = FarEngine("policy", 1)
        engine.connect([There()], Ready(Wild().info, 4, 4))
        assert await engine.grow_tree(REQUEST) == await Wild().grow_tree(REQUEST)

    asyncio.run(session())


def test_answers_of_unfinished_work_are_found_again(tmp_path: Path) -> None:
    async def session() -> None:
        known = Answers(Root(str(tmp_path)), "stage")
        first = Journal(known)
        found = await Desk(Wild(), Meter(Timeline("here"), None), 0, first).grow_tree(REQUEST)
        await first.flush()
        known.read()
        fresh = Wild(refuse=1.0)
        assert await Desk(fresh, Meter(Timeline("here"), None), 0, Journal(known)).grow_tree(REQUEST) == found
        assert not fresh.asked

    asyncio.run(session())
