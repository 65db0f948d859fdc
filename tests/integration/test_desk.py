"""Every call to every engine is paid from one account; what is drawn is judged, and a cap is one by every count."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.records.reader import manifests
from cluster.records.run import RunResult
from cluster.spending.books import read_books
from cluster.spending.history import LEDGER, History, read_ledger
from cluster.upkeep.garbage import collect
from operators.load import Load
from operators.policies.named import UniformSpec
from operators.sample.sampling import Sampling
from operators.score.outcome import ScoreOutcome
from operators.select.chops import SelectChops
from operators.synthesize.sft import SynthesizeSft
from operators.transform.concise import SynthesizeConcise
from operators.verify.judge import VerifyJudge
from pipelines.graph import Pipeline
from schemas.budget import Budget
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from schemas.prices import Prices
from tests.strategies import Rounds
from tests.support import BOTH, QUICK, make_runner, run, stage, write_problems

SCHEDULES = int(os.environ.get("GRISTMILL_SCHEDULES", "3"))
"""How many random schedules of kills the cap is held against."""
LONG = tuple(" ".join(["word"] * size) + f" {{seed}} The answer is {size % 3}" for size in (1, 3, 6, 10))
VOTES = ("I think so. VERDICT: SAME", "No, it differs, I am afraid. VERDICT: DIFFERENT")


def schedules(*short: int) -> list[object]:
    """Return the seeds of kill schedules; but for those that are named, `make test-long` alone plays them."""
    return [seed if seed in short else pytest.param(seed, marks=pytest.mark.long) for seed in range(SCHEDULES)]


def counted(folder: Path) -> dict[str, int]:
    """Return the tokens that each engine counted itself."""
    logs = sorted(folder.glob("*.tokens"))
    return {log.stem: sum(int(word) for line in log.read_text().split("\n") for word in line.split()) for log in logs}


def judged(
    folder: Path, *, n: int = 40, votes: int = 4, judge: dict[str, Any] | None = None, **engine: Any
) -> Pipeline:
    """Return load -> sample -> judge, each engine with a log of what it counted."""
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 10)
    policy = {"answers": LONG, "slots": 8, "token_log": str(folder / "policy.tokens"), **engine}
    told = {"model": "judge", "answers": VOTES, "slots": 8, "token_log": str(folder / "judge.tokens"), **(judge or {})}
    pipeline = Pipeline("judged")
    problems = pipeline.stage("load", Load(source=str(source)))
    samples = pipeline.stage(
        "sample",
        Sampling(n=n, max_tokens=16, policy=UniformSpec()),
        engine=ScriptedSpec.model_validate(policy),
        problems=problems,
    )
    pipeline.stage(
        "verify",
        VerifyJudge(votes=votes, max_tokens=12),
        engine=ScriptedSpec.model_validate(told),
        problems=problems,
        samples=samples,
    )
    return pipeline


def play(pipeline: Pipeline, folder: Path, budget: Budget | None, runner: str = "local", **more: Any) -> RunResult:
    settings = QUICK.model_copy(update={"budget": budget, "flush_seconds": 0.1, **more})
    return run(make_runner(runner), pipeline, folder / "root", settings)


@BOTH
def test_judging_is_paid_and_what_is_drawn_is_judged(tmp_path: Path, runner: str) -> None:
    result = play(judged(tmp_path, n=500), tmp_path, Budget(tokens=12_000), runner)
    used = counted(tmp_path)
    assert result.manifest.state == "budget reached"
    assert sum(used.values()) <= 12_000
    assert used["judge"] > used["policy"] > 0
    samples, verdicts = (result.dataset(name).collect() for name in ("sample", "verify"))
    assert len(samples) == len(verdicts) > 10
    assert verdicts["status"].is_in(["ok", "unparseable"]).all()
    spending = result.manifest.spending
    assert spending is not None and spending.tokens == sum(used.values()) and spending.orphaned_tokens == 0
    assert 12_000 - spending.tokens < 1_200, "a sample and its four votes take some 900 tokens at most"
    by_stage = dict(
        read_ledger(result.root).select("stage", pl.col("prompt_tokens") + pl.col("completion_tokens")).rows()
    )
    assert by_stage == {"sample": used["policy"], "verify": used["judge"]}


def test_a_cap_ends_judging_alone_and_what_it_paid_is_found_again(tmp_path: Path) -> None:
    sampled = play(judged(tmp_path), tmp_path, None)
    assert sampled.manifest.state == "done"
    (tmp_path / "judge.tokens").unlink()
    again = judged(tmp_path, votes=3)
    first = play(again, tmp_path, Budget(tokens=9_000))
    assert first.manifest.state == "budget reached" and "stage verify" in (first.manifest.error or "")
    used = counted(tmp_path)["judge"]
    assert 8_500 < used <= 9_000
    there = len(first.dataset("verify").collect())
    assert there > 0
    rest = play(again, tmp_path, None)
    assert rest.manifest.state == "done"
    (tmp_path / "judge.tokens").rename(tmp_path / "both")
    shutil.rmtree(tmp_path / "root")
    play(again, tmp_path, None)
    whole = counted(tmp_path)["judge"]
    both = sum(int(word) for word in (tmp_path / "both").read_text().split())
    assert both == whole, "nothing was asked twice, over both runs"
    assert not list((tmp_path / "root").glob("answers/**/*.jsonl")), "what is committed leaves no answers behind"


def whole(folder: Path, **engine: Any) -> Pipeline:
    """Return a pipeline in which six engines are asked: to sample, judge, score, rewrite, search, and score steps."""
    pipeline = judged(folder, n=200, votes=2, judge=engine, **engine)
    problems, samples, verdicts = (pipeline.stages[name] for name in ("load", "sample", "verify"))
    specs = [
        ScriptedSpec.model_validate(
            {
                "model": name,
                "answers": LONG if name == "searcher" else ("So \\n\\n0",),
                "slots": 4,
                "token_log": str(folder / f"{name}.tokens"),
                **engine,
            }
        )
        for name in ("reward", "editor", "searcher", "steps")
    ]
    searching = Sampling(n=40, max_tokens=16, strategy=Rounds(rounds=2), policy=UniformSpec())
    pipeline.stage(
        "search",
        searching,
        engine=specs[2],
        engines={"scorer": specs[3].model_copy(update={"gpus": 1.0})},
        problems=problems,
    )
    pipeline.stage("score", ScoreOutcome(), engine=specs[0], problems=problems, samples=samples)
    sft = pipeline.stage("sft", SynthesizeSft(), problems=problems, samples=samples, verdicts=verdicts)
    pipeline.stage("shorter", SynthesizeConcise(max_tokens=16, reflection="word"), engine=specs[1], sft=sft)
    return pipeline


def live(folder: str, budget: dict[str, Any]) -> None:
    """One life of a run, in a process of its own."""
    pipeline = whole(Path(folder), latency=0.01, jitter=0.02, fail_transient=0.02)
    play(pipeline, Path(folder), Budget(**budget), **PRICED, grace_seconds=3600.0)


PRICED: dict[str, Any] = {
    "prices": {
        name: Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=2.0)
        for name in ("scripted", "judge", "editor", "searcher")
    }
    | {name: Prices(dollars_per_gpu_hour=0.001) for name in ("reward", "steps")}
}


@pytest.mark.parametrize("seed", schedules(0, 2))  # tokens, and dollars
def test_a_cap_over_six_engines_holds_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    cap: dict[str, Any] = {"tokens": 20_000} if seed % 3 < 2 else {"dollars": 0.03}
    budget = {**cap, "keep": {"shorter": 0.05}}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.test_desk"])
    for _ in range(draws.randint(1, 4)):
        life = context.Process(target=live, args=(str(tmp_path), budget))
        life.start()
        life.join(draws.uniform(0.5, 3.0))
        if life.is_alive():
            os.kill(life.pid or 0, draws.choice([signal.SIGKILL, signal.SIGTERM]))
        life.join(60)
        assert life.exitcode is not None, "a run that is asked to end doesn't wait for money that nobody lends any more"
    pipeline, drew = whole(tmp_path, latency=0.01, jitter=0.02, fail_transient=0.02), True
    while drew:  # what was kept for rewriting and wasn't needed is the next run's
        result = play(pipeline, tmp_path, Budget(**budget), **PRICED)
        drew = any(stage(result, name)["computed"] > 0 for name in ("sample", "search"))
        assert result.manifest.state == "budget reached"
        samples, verdicts, scores = (len(result.dataset(name).collect()) for name in ("sample", "verify", "score"))
        assert samples == verdicts == scores
    used = counted(tmp_path)
    assert used["searcher"] > 0 and used["steps"] > 0 and used["editor"] > 0
    spending = result.manifest.spending
    assert spending is not None
    slots, worst = 8 + 8 + 4 + 4 + 4 + 4, 160
    if "tokens" in budget:
        assert sum(used.values()) <= spending.tokens <= 20_000
        assert spending.tokens >= 20_000 - (slots + 1) * worst
    else:
        assert spending.microdollars <= 30_000
        assert spending.microdollars >= 30_000 - 2 * (slots + 1) * worst


def test_the_books_alone_say_what_was_spent(tmp_path: Path) -> None:
    result = play(judged(tmp_path, n=60), tmp_path, Budget(tokens=12_000))
    before = History(result.root, "judged").spent
    shutil.rmtree(tmp_path / "root" / LEDGER)
    shutil.rmtree(tmp_path / "root" / "samples")
    shutil.rmtree(tmp_path / "root" / "verdicts")
    after = History(result.root, "judged").spent
    assert after == before and before.tokens == sum(counted(tmp_path).values())


def test_money_for_whole_problems_is_kept(tmp_path: Path) -> None:
    pipeline = judged(tmp_path, n=500, votes=1)
    spec = {"model": "chooser", "answers": ("BEST: 1",), "token_log": str(tmp_path / "chooser.tokens")}
    verdicts, samples, problems = (pipeline.stages[name] for name in ("verify", "sample", "load"))
    pipeline.stage(
        "pick",
        SelectChops(max_tokens=16, votes=2),
        engine=ScriptedSpec.model_validate(spec),
        verdicts=verdicts, samples=samples, problems=problems,
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"run.budget.keep names verify"):
        play(pipeline, tmp_path, Budget(tokens=12_000, keep={"verify": 0.2}))
    result = play(pipeline, tmp_path, Budget(tokens=12_000, keep={"pick": 0.4}))
    used = counted(tmp_path)
    assert sum(used.values()) <= 12_000 and used["policy"] + used["judge"] <= 0.6 * 12_000
    assert len(result.dataset("pick").collect()) == 10
    paid = read_ledger(result.root).group_by("stage").agg((pl.col("prompt_tokens") + pl.col("completion_tokens")).sum())
    assert dict(paid.rows())["pick"] == used["chooser"] > 0


@pytest.mark.parametrize("usage", ["missing", "half", "double"])
def test_an_engine_that_miscounts(tmp_path: Path, usage: str) -> None:
    result = play(judged(tmp_path, n=500, usage=usage, judge={"usage": usage}), tmp_path, Budget(tokens=12_000))
    spending = result.manifest.spending
    assert spending is not None and spending.tokens <= 12_000 + (800 if usage == "double" else 0)
    if usage == "missing":  # counted at the most it can be
        assert sum(counted(tmp_path).values()) <= 12_000


def test_the_bills_of_a_run_without_a_budget(tmp_path: Path) -> None:
    result = play(judged(tmp_path, n=8), tmp_path, None)
    books = read_books(result.root, next(iter(manifests(result.root))).run_id)
    tokens = (pl.col("prompt_tokens") + pl.col("completion_tokens")).sum()
    assert dict(books.group_by("stage").agg(tokens).rows()) == {
        "sample": counted(tmp_path)["policy"],
        "verify": counted(tmp_path)["judge"],
    }


def test_a_judge_that_dies_is_asked_only_what_it_didnt_answer(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    judge = {"deadly": "poison", "call_log": str(log), "latency": 0.003}
    pipeline = judged(tmp_path, n=30, votes=2, judge=judge, by_prompt={"What is 1 +": (*LONG, "it is poison")})
    result = play(pipeline, tmp_path, None, engine_restarts=30)
    poisoned = result.dataset("sample").filter(pl.col("completion") == "it is poison").collect()
    verdicts = result.dataset("verify").collect()
    assert len(poisoned) and len(verdicts) == 300 - len(poisoned)
    texts = result.dataset("sample").filter(pl.col("completion") != "it is poison").collect()
    distinct = texts.select("problem_key", "completion").n_unique()
    record = next(found for found in result.manifest.stages if found.name == "verify")
    deaths = sum(replica.deaths for replica in record.replicas)
    assert deaths >= len(poisoned.unique("problem_key"))
    asked = len(log.read_text().splitlines())
    in_flight = 2 * 8  # of two tasks at once, when it died
    assert asked <= 2 * distinct + deaths * in_flight
    assert record.calls >= 2 * distinct - deaths * in_flight


def test_old_answers_to_work_that_nobody_went_on_with_are_garbage(tmp_path: Path) -> None:
    play(judged(tmp_path), tmp_path, None)
    result = play(judged(tmp_path, votes=3), tmp_path, Budget(tokens=9_000))
    left = list((tmp_path / "root").glob("answers/**/*.jsonl"))
    assert left
    assert collect(result.root, older_than=1.0).count("answers to unfinished work") == 0
    for path in left:
        os.utime(path, (0, 0))
    assert collect(result.root, older_than=1.0).count("answers to unfinished work") == len(left)
    assert not list((tmp_path / "root").glob("answers/**/*.jsonl"))
