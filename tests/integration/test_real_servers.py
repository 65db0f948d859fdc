"""Runs against servers that don't behave: what they cost, what is kept, how they end and in whose words."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import web
from rich.console import Console

from cluster.engines.openai import gate
from cluster.planning.plan import make_plan
from cluster.records.reader import open_stage
from cluster.records.refused import refused as refused_samples
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from cluster.upkeep.retry import forget_errors
from cluster.working.unproven import Unproven
from jobs.looking.samples import sample_rows
from jobs.running.summary import document, print_run
from operators.load import Load
from operators.policies.named import UniformSpec
from operators.sample.sampling import Sampling
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.engine import OpenAISpec
from schemas.errors import BadInput, RunIncomplete
from schemas.manifest import StageRecord
from tests.odd_server import OddServer, answer, refused
from tests.support import QUICK, run, write_problems

TOKENS = 16


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses of a twentieth of their length: what is tested is that they are made."""
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.0125)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.25)
    monkeypatch.setattr(gate, "TRIAL", 0.05)
    yield


def sampled(
    folder: Path, server: OddServer | str, n: int, *, problems: int = 3, budget: Budget | None = None, **engine: Any
) -> RunResult:
    """Draw samples from a server, and judge them."""
    pipeline = pipeline_of(folder, server, n, problems=problems, budget=budget, **engine)
    return run(LocalRunner(), pipeline, folder / "root", QUICK.model_copy(update={"budget": budget}))


def pipeline_of(
    folder: Path, server: OddServer | str, n: int, *, problems: int = 3, budget: Budget | None = None, **engine: Any
) -> Pipeline:
    source = folder / "p.jsonl"
    if not source.exists():
        write_problems(source, problems)
    url = server if isinstance(server, str) else server.url
    spec = OpenAISpec.model_validate({"url": url, "model": "m", "revision": "1", "patience": 60.0, **engine})
    pipeline = Pipeline("odd")
    loaded = pipeline.stage("load", Load(source=str(source)))
    policy = None if budget is None else UniformSpec()
    draws = Sampling(n=n, max_tokens=TOKENS, policy=policy)
    samples = pipeline.stage("sample", draws, engine=spec, problems=loaded)
    pipeline.stage("verify", VerifyExact(), problems=loaded, samples=samples)
    return pipeline


def rows(result: RunResult) -> pl.DataFrame:
    return open_stage(result.root, result.manifest, "sample").collect()


def record(result: RunResult) -> StageRecord:
    return next(found for found in result.manifest.stages if found.name == "sample")


def committed(folder: Path) -> int:
    """Return how many samples are facts, whatever became of the run."""
    root = Root.at(str(folder / "root"))
    return sum(
        len(pl.read_delta(root.uri("samples", name)))
        for name in root.list("samples")
        if root.exists(f"samples/{name}/_delta_log")
    )


async def _ok(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return answer()


# -- served or not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [None, Budget(tokens=1_000_000)])
def test_a_server_that_is_away_for_a_while_costs_no_sample(tmp_path: Path, budget: Budget | None) -> None:
    in_flight: list[int] = []

    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(server.calls) == 100:
            in_flight.append(server.now)
            threading.Thread(target=restart, args=(server,)).start()
        await asyncio.sleep(0.02)
        return answer()

    def restart(server: OddServer) -> None:
        server.stop()
        threading.Event().wait(0.5)
        server.start()

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 100, budget=budget, concurrency=8)
    assert result.manifest.state == "done"
    assert len(rows(result)) == 300
    if (spending := result.manifest.spending) is not None:
        assert spending.tokens - spending.orphaned_tokens == 300 * 32
        assert spending.orphaned_samples <= 8  # what nobody answered


def test_what_never_reached_a_server_is_not_charged(tmp_path: Path) -> None:
    budget = Budget(tokens=10_000)
    with OddServer(_ok) as server:
        server.stop()
        with pytest.raises(RunIncomplete, match=r"could not be drawn: .*Cannot connect"):
            _with_votes(tmp_path, server, 20, budget, patience=0.3)
        server.start()
        result = _with_votes(tmp_path, server, 20, budget)
    assert len(rows(result)) == 60
    spending = result.manifest.spending
    assert spending is not None and (spending.tokens, spending.orphaned_tokens) == (60 * 32, 0)


def _with_votes(folder: Path, server: OddServer, n: int, budget: Budget, **engine: Any) -> RunResult:
    """As ``sampled``, with a measure, which can't be taken where there is no sample."""
    from operators.measure.pass_at_k import PassAtK

    source = folder / "p.jsonl"
    if not source.exists():
        write_problems(source, 3)
    spec = OpenAISpec.model_validate({"url": server.url, "model": "m", "revision": "1", **engine})
    pipeline = Pipeline("odd")
    loaded = pipeline.stage("load", Load(source=str(source)))
    draws = Sampling(n=n, max_tokens=TOKENS, policy=UniformSpec())
    samples = pipeline.stage("sample", draws, engine=spec, problems=loaded)
    verdicts = pipeline.stage("verify", VerifyExact(), problems=loaded, samples=samples)
    pipeline.stage("coverage", PassAtK(), verdicts=verdicts)
    return run(LocalRunner(), pipeline, folder / "root", QUICK.model_copy(update={"budget": budget}))


PLENTY = Budget(tokens=10_000_000)


@pytest.mark.parametrize(
    ("word", "budget"),
    [
        *((word, None) for word in ("503", "500", "429", "late", "200")),
        *((word, PLENTY) for word in ("529", "504", "broken", "finish", "200", "late")),
    ],
)
def test_overload_in_any_word_costs_no_sample(tmp_path: Path, word: str, budget: Budget | None) -> None:
    """A backend for 8 at once, asked by 64."""

    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if server.now <= 8:
            await asyncio.sleep(0.02)
            return answer()
        if word == "late":
            await asyncio.sleep(0.4)
        await asyncio.sleep(0.01)
        if word == "200":
            return web.json_response({"error": {"code": 429, "message": "too many"}})
        if word == "finish":
            return answer("The", finish_reason="abort")
        if word == "broken":
            assert request.transport is not None
            request.transport.abort()
        return answer() if word in ("late", "broken") else refused(int(word), "overloaded")

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 30, problems=2, budget=budget, timeout=0.2 if word == "late" else 60.0)
    assert result.manifest.state == "done"
    assert set(rows(result)["finish_reason"]) == {"stop"}
    assert len(rows(result)) == 60
    spending = result.manifest.spending
    if spending is not None and word in ("503", "529", "500", "429", "200"):
        assert (spending.tokens, spending.orphaned_tokens) == (60 * 32, 0)


# -- money ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -1}])
def test_a_cap_holds_on_a_server_that_does_not_count(tmp_path: Path, usage: Any) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return answer(usage=usage)

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 500, budget=Budget(tokens=5_000))
        assert len(server.calls) * 32 < 5_000
    found, spending = rows(result), result.manifest.spending
    assert found["tokens_estimated"].all()
    assert record(result).estimated == len(found) > 10
    assert spending is not None and spending.tokens == found["prompt_tokens"].sum() + found["completion_tokens"].sum()
    assert 4_500 < spending.tokens <= 5_000


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 20, "completion_tokens": 5_010},
        {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 5_030},
        {"prompt_tokens": 5_000, "completion_tokens": 12},
    ],
)
def test_a_server_that_takes_more_than_it_is_told_is_noticed_at_once(tmp_path: Path, usage: dict[str, int]) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return answer(usage=usage)

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 500, budget=Budget(tokens=30_000))
        assert 5 <= len(server.calls) <= 9  # as many as the cap has room for, or what was in flight at first
    assert "TAKES MORE THAN IT IS ASKED TO" in record(result).overrun
    assert result.manifest.state == "budget reached"


def test_what_is_reserved_is_the_bound_that_is_sent(tmp_path: Path) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return answer(usage={"prompt_tokens": 20, "completion_tokens": body["max_completion_tokens"]})

    renamed = {"max_tokens": None, "max_completion_tokens": 2_000}
    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 50, budget=Budget(tokens=9_000), extra_body=renamed)
        assert len(server.calls) == 4
    assert result.manifest.spending is not None and result.manifest.spending.tokens == 4 * 2_020
    assert not record(result).overrun


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "budget"), [(400, None), (422, None), (404, None), (400, Budget(tokens=100_000))])
def test_what_refuses_everything_ends_the_run_in_its_words_and_leaves_nothing(
    tmp_path: Path, status: int, budget: Budget | None
) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return refused(status, "The model `gpt-9` does not exist")

    with OddServer(handler) as server:
        with pytest.raises(BadInput, match=f"answered {status}: The model `gpt-9` does not exist"):
            sampled(tmp_path, server, 100, budget=budget)
        assert len(server.calls) <= 128
        assert committed(tmp_path) == 0
        server.handler = _ok
        assert len(rows(sampled(tmp_path, server, 100, budget=budget))) == 300


@pytest.mark.parametrize("runner", ["one replica", "two replicas"])
def test_a_run_whose_few_answers_are_all_the_same_refusal_leaves_nothing(tmp_path: Path, runner: str) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return refused(400, f"max_tokens {body['max_tokens']} isn't taken, request {len(server.calls)}")

    replicas = 1 if runner == "one replica" else 2
    with OddServer(handler) as server:
        with pytest.raises(BadInput, match="answered 400: max_tokens 16 isn't taken"):
            sampled(tmp_path, server, 1, replicas=replicas)
        assert (len(server.calls), committed(tmp_path)) == (3, 0)
        server.handler = _ok
        assert (rows(sampled(tmp_path, server, 1, replicas=replicas))["status"] == "ok").all()


def test_few_refusals_in_other_words_or_after_others_were_served_are_about_their_samples(tmp_path: Path) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return refused((400, 413, 422)[len(server.calls) % 3], "no")

    with OddServer(handler) as server:
        assert (rows(sampled(tmp_path, server, 1))["status"] == "error").all()
        server.handler = _ok
        sampled(tmp_path, server, 2)

        async def stubborn(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            return refused(400, "no")

        server.handler = stubborn
        found = rows(sampled(tmp_path, server, 3))
    assert found["status"].value_counts().sort("status").rows() == [("error", 6), ("ok", 3)]


def test_an_account_without_money_ends_a_run_that_was_served(tmp_path: Path) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return answer() if len(server.calls) <= 50 else refused(429, "You exceeded your quota", "insufficient_quota")

    with OddServer(handler) as server:
        with pytest.raises(BadInput, match="answered 429: You exceeded your quota"):
            sampled(tmp_path, server, 100, concurrency=4)
        assert len(server.calls) <= 54
    assert 0 < committed(tmp_path) <= 50


def test_one_flagged_prompt_costs_its_own_samples_wherever_it_stands(tmp_path: Path) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "1+1" in json.dumps(body["messages"]):
            return refused(403, "flagged for violence")
        await asyncio.sleep(0.1)  # whatever is served takes longer
        return answer()

    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"problem_id": str(i), "prompt": f"{i + 1}+1", "answer": "4"}) + "\n" for i in range(3))
    )
    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 30, concurrency=16)
    by_status = rows(result).group_by("status").len().sort("status")
    assert by_status.rows() == [("error", 30), ("ok", 60)]
    assert result.manifest.state == "done"


def test_refusals_are_told_and_drawn_again(tmp_path: Path) -> None:
    """Some requests are refused; the summary says why, and they are drawn again where that is wanted."""
    strict = [True]

    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return refused(400, f"seed {body['seed']} is cursed") if strict[0] and body["seed"] % 5 == 0 else answer("1")

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 20)
        root, count = result.root, sum(body["seed"] % 5 == 0 for body in server.calls)
        assert count > 0 and result.manifest.state == "done"
        with (console := Console(width=500)).capture() as printed:
            print_run(console, root, result.manifest)
        assert f"sample: {count} failed: {server.url} answered 400: seed" in printed.get()
        assert "--retry-errors draws them again" in printed.get()
        assert [one["samples"] for one in document(root, result.manifest)["refused"]] == [count]
        listed = sample_rows(root, result.manifest, None, "refused", 100)
        assert len(listed) == count and listed["error"].str.contains("is cursed").all()
        before, strict[0] = len(server.calls), False
        assert len(rows(sampled(tmp_path, server, 20)).filter(pl.col("status") == "error")) == count
        assert len(server.calls) == before  # the same command leaves them
        forget_errors(root, make_plan(pipeline_of(tmp_path, server, 20), root))
        again = sampled(tmp_path, server, 20)
        assert len(server.calls) - before == count
    assert (rows(again)["status"] == "ok").all() and len(rows(again)) == 60
    assert refused_samples(root, again.manifest) == []


# -- what comes back -----------------------------------------------------------------------------------------------


def test_half_a_character_costs_nothing(tmp_path: Path) -> None:
    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bad = len(server.calls) % 10 == 3
        text = "4\ud83d" if bad else "4"
        return answer(text, message={"role": "assistant", "content": text, "reasoning_content": "hm \udc00"})

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 40)
        assert len(server.calls) == 120
    found = rows(result)
    assert found["completion"].str.contains("\N{REPLACEMENT CHARACTER}").sum() == 12
    assert set(found["reasoning"]) == {"hm \N{REPLACEMENT CHARACTER}"}
    assert result.manifest.state == "done"


def test_a_row_that_no_table_takes_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Sampling.draw

    async def odd(self: Sampling, *given: Any) -> dict[str, Any]:
        row = await draw(self, *given)
        return {**row, "completion_tokens": -7} if row["sample_index"] == 3 else row

    monkeypatch.setattr(Sampling, "draw", odd)
    with OddServer(_ok) as server:
        result = sampled(tmp_path, server, 20)
        assert len(server.calls) == 60
    assert len(rows(result)) == 57
    assert record(result).quarantined == 3
    assert result.manifest.state == "incomplete"


def test_a_body_is_read_as_far_as_it_can_be_what_was_asked_for(tmp_path: Path) -> None:
    sent: list[int] = []

    async def handler(server: OddServer, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(server.calls) % 10 != 5:
            return answer()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        sent.append(0)
        place = len(sent) - 1
        try:
            for _ in range(100):
                await response.write(b" " * (1 << 20))
                sent[place] += 1
        except ConnectionError:
            pass
        return response

    with OddServer(handler) as server:
        result = sampled(tmp_path, server, 20)
    failed = rows(result).filter(pl.col("status") == "error")
    assert len(failed) == len(sent) == 6
    assert max(sent) < 30  # MiB, those in the sockets' buffers included
    assert failed["error"].str.contains("far more than was asked for").all()
    assert (failed["completion_tokens"] == TOKENS).all()  # it may have been paid for


def test_the_first_refusals_wait_for_something_that_is_served() -> None:
    bad, good = {"status": "error"}, {"status": "ok"}
    rows = Unproven()
    assert rows.proven([bad]) == rows.proven([bad]) == []
    assert rows.proven([bad, good]) == [bad, bad, bad, good]
    assert rows.proven([bad]) == [bad]
    assert rows.rest() == []
    never = Unproven()
    never.proven([bad])
    assert never.rest() == [bad]  # there is nothing else
