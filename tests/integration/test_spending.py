"""Budgets: caps that hold by the engine's own count, whatever is killed; policies that hear of verdicts; gates."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.records.reader import find_run, manifests
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.spending.allocations import read_allocations
from cluster.spending.draw_costs import costs_of_samples
from cluster.spending.history import read_ledger
from cluster.spending.source import PolicySource
from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ranges, RangeSet
from cluster.storage.root import Root
from jobs.config.settings import build_pipeline
from operators.policies.named import ComputeOptimalSpec, ConsistencySpec, MarginalSpec, UniformSpec, UntilCorrectSpec
from operators.sample.sampling import Sampling
from pipelines.graph import Pipeline
from schemas.budget import Budget, Gate
from schemas.errors import BadInput
from schemas.job import RunSettings
from schemas.manifest import StageRecord
from schemas.prices import Prices
from tests.support import QUICK, make_runner, run, scripted_pipeline, write_problems

SCHEDULES = int(os.environ.get("GRISTMILL_SCHEDULES", "3"))
"""How many random schedules of kills the cap is held against."""
SLOTS = 8
LONG = ("one", "one two three", "one two three four five six")


def counted(log: Path) -> tuple[int, int]:
    """Return samples and tokens as the engine counted them."""
    rows = [[int(word) for word in line.split()] for line in log.read_text().splitlines()] if log.exists() else []
    return len(rows), sum(map(sum, rows))


def worst(max_tokens: int = 6) -> int:
    """Return the most tokens a request of these pipelines may take: the prompt has 5 words in its template of 2."""
    return 7 + max_tokens


def budgeted(folder: Path, budget: Budget, n: int = 500, **engine: Any) -> RunResult:
    """Run 10 problems under a budget, on an engine that notes what it counted."""
    source = folder / "problems.jsonl"
    if not source.exists():
        write_problems(source, 10)
    spec = {"answers": LONG, "slots": SLOTS, "token_log": str(folder / "tokens"), "latency": 0.01, **engine}
    return play(scripted_pipeline(source, n, Sampling(max_tokens=6), **spec), folder / "root", budget)


def play(pipeline: Pipeline, root: Path, budget: Budget | None = None, **settings: Any) -> RunResult:
    """Run a pipeline here, under a budget."""
    return run(LocalRunner(), pipeline, root, QUICK.model_copy(update={"budget": budget, **settings}))


def record(result: RunResult, name: str) -> StageRecord:
    return next(found for found in result.manifest.stages if found.name == name)


def live(folder: str, tokens: int) -> None:
    """One life of a run, in a process of its own."""
    budgeted(Path(folder), Budget(tokens=tokens), jitter=0.02, fail_transient=0.02)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_cap_holds_by_the_engines_count_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    draws, cap = random.Random(seed), 4_000
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.test_spending"])
    for _ in range(draws.randint(1, 4)):
        life = context.Process(target=live, args=(str(tmp_path), cap))
        life.start()
        life.join(draws.uniform(0.3, 2.5))
        if life.is_alive():
            os.kill(life.pid or 0, draws.choice([signal.SIGKILL, signal.SIGTERM]))
        life.join(60)
    result = budgeted(tmp_path, Budget(tokens=cap), jitter=0.02, fail_transient=0.02)
    samples, tokens = counted(tmp_path / "tokens")
    assert tokens <= cap
    assert result.manifest.state == "budget reached" and result.manifest.spending is not None
    orphans = int(read_ledger(result.root).filter(pl.col("kind") == "orphan")["completion_tokens"].sum())
    assert cap - tokens <= SLOTS * worst() + orphans
    assert result.manifest.spending.tokens <= cap
    stored = result.dataset("sample").collect()
    assert len(stored) <= samples


def test_caps_in_samples_tokens_and_dollars(tmp_path: Path) -> None:
    for name, budget, most in (
        ("samples", Budget(samples=100), 100),
        ("tokens", Budget(tokens=1_000), 1_000),
        ("dollars", Budget(dollars=0.001), 1_000),
    ):
        folder = tmp_path / name
        folder.mkdir()
        source = write_problems(folder / "problems.jsonl", 10)
        log = folder / "tokens"
        sampling = Sampling(max_tokens=6, policy=UniformSpec())
        pipeline = scripted_pipeline(source, 500, sampling, answers=LONG, slots=4, token_log=str(log))
        price = Prices(dollars_per_million_prompt_tokens=0.5, dollars_per_million_completion_tokens=2.0)
        result = play(pipeline, folder / "root", budget, prices={"scripted": price})
        assert result.manifest.state == "budget reached", name
        assert result.manifest.error is not None and "doesn't afford another" in result.manifest.error
        samples, tokens = counted(log)
        prompt = result.dataset("sample").select(pl.col("prompt_tokens").sum()).collect().item()
        spent = {"samples": samples, "tokens": tokens, "dollars": round(0.5 * prompt + 2.0 * (tokens - prompt))}[name]
        one = {"samples": 1, "tokens": worst(), "dollars": 16}[name]
        assert most - 2 * one <= spent <= most, name
        entry = read_ledger(result.root).row(0, named=True)
        assert (entry["samples"], entry["prompt_tokens"] + entry["completion_tokens"]) == (samples, tokens)
        counts = result.dataset("sample").group_by("problem_key").len().collect()["len"]
        assert counts.max() - counts.min() <= 2, "an equal share for all"  # pyright: ignore[reportOperatorIssue]
        assert record(result, "select").complete


def test_a_higher_cap_goes_on_and_the_same_one_ends_at_once(tmp_path: Path) -> None:
    first = budgeted(tmp_path, Budget(samples=60))
    again = budgeted(tmp_path, Budget(samples=60))
    assert (first.manifest.state, again.manifest.state) == ("budget reached", "budget reached")
    assert record(again, "sample").computed == 0 and counted(tmp_path / "tokens")[0] == 60
    more = budgeted(tmp_path, Budget(samples=90))
    assert record(more, "sample").computed == 30 and record(more, "sample").reused == 60
    other = budgeted(tmp_path, Budget(samples=20, account="tomorrow"))
    assert record(other, "sample").computed == 20


def test_an_unknown_price_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no price of 'scripted' is known"):
        budgeted(tmp_path, Budget(dollars=1.0))
    assert counted(tmp_path / "tokens") == (0, 0)


def test_until_correct_stops_solved_problems(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 9)
    policy = UntilCorrectSpec(target=2)
    pipeline = scripted_pipeline(source, 200, Sampling(policy=policy), slots=4, latency=0.05)
    result = play(pipeline, tmp_path / "root")
    assert result.manifest.state == "done"
    right = result.dataset("verify").group_by("problem_key").agg(pl.col("is_correct").sum(), pl.len()).collect()
    assert (right["is_correct"] >= 2).all() and right["len"].sum() < 9 * 100
    sampled = record(result, "sample")
    assert sampled.policy == "until_correct" and sampled.planned == sampled.computed == right["len"].sum()
    log = read_allocations(result.root, result.manifest.run_id)
    assert log["count"].sum() == sampled.computed and log["reason"].unique().to_list() == ["until_correct"]
    assert log["sequence"].to_list() == list(range(len(log)))
    again = play(pipeline, tmp_path / "root")
    assert record(again, "sample").computed == 0 and again.manifest.state == "done"
    assert all(each.reused == each.planned for each in again.manifest.stages), "nothing is computed again"


def test_marginal_serves_what_is_promising_and_a_prior_says_what_is(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 12)  # answers 0, 1, 2 in turn; the engine never says 2
    before = tmp_path / "before.parquet"
    pl.DataFrame(
        {"problem_id": [f"p{i}" for i in range(12)], "n": [100] * 12, "c": [50 if i % 3 < 2 else 0 for i in range(12)]}
    ).write_parquet(before)
    policy = MarginalSpec(target=4, before=str(before))
    sampling = Sampling(policy=policy)
    pipeline = scripted_pipeline(source, 100, sampling, answers=("0", "1", "3"), slots=2, latency=0.1)
    result = play(
        pipeline, tmp_path / "root", Budget(samples=450)
    )  # more than four times what it takes, should verdicts be late
    rows = result.dataset("verify").collect()
    useful = rows.group_by("problem_key").agg(pl.col("is_correct").sum().clip(0, 4))["is_correct"].sum()
    assert useful >= 30, "nearly all that can be solved is solved"
    assert result.manifest.state == "budget reached"
    assert read_allocations(result.root, result.manifest.run_id)["observed_through"].max() > 50  # pyright: ignore


@pytest.mark.ray
def test_a_budget_on_ray_with_two_replicas(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 8)
    log = tmp_path / "tokens"
    policy = UntilCorrectSpec(target=3)
    spec: dict[str, Any] = {
        "slots": 4,
        "latency": 0.05,
        "replicas": 2,
        "token_log": str(log),
        "answers": ("0", "1", "2"),
    }
    pipeline = scripted_pipeline(source, 200, Sampling(max_tokens=6, policy=policy), **spec)
    settings = QUICK.model_copy(update={"budget": Budget(tokens=700)})
    result = run(make_runner("ray"), pipeline, tmp_path / "root", settings)
    assert result.manifest.state in ("budget reached", "done")
    assert 0 < counted(log)[1] <= 700
    assert all(found.complete for found in result.manifest.stages)


def numbered(*keys: str) -> Numbering:
    return Numbering([pl.Series(keys)])


def test_costs_are_weighed(tmp_path: Path) -> None:
    held = RangeSet(Ranges.of([0, 1], 0, 50))
    source = PolicySource(MarginalSpec(target=100), numbered("long", "short"), 500, held, Ranges.none())
    rows = [
        {"problem_key": key, "sample_index": i, "prompt_tokens": 10, "completion_tokens": tokens, "status": "ok"}
        for key, tokens in (("long", 900), ("short", 90))
        for i in range(50)
    ]
    source.learn_costs(costs_of_samples(pl.DataFrame(rows), None))
    judged = {"predicted_answer": "1", "answer_key": "1", "is_correct": True, "status": "ok"}
    keys = pl.DataFrame(rows).select("problem_key", "sample_index")
    source.observe(keys.with_columns(pl.lit(value).alias(name) for name, value in judged.items()))
    assert set(source.take(20).ranges.numbers) == {1}, "the same rate for a tenth of the cost"


def test_voting_stops_where_answers_agree(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 6)
    sampling = Sampling(policy=ConsistencySpec(rule="adaptive"))
    pipeline = scripted_pipeline(source, 100, sampling, answers=("7",), slots=2, latency=0.2)
    result = play(pipeline, tmp_path / "root")
    counts = result.dataset("sample").group_by("problem_key").len().collect()["len"]
    assert counts.min() >= 4 and counts.max() <= 12  # pyright: ignore[reportOperatorIssue]


def test_holes_are_filled_first(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 5)
    pipeline = scripted_pipeline(source, 40, Sampling(policy=UniformSpec()), slots=4)
    first = play(pipeline, tmp_path / "root", Budget(samples=60))
    sent = read_allocations(first.root, first.manifest.run_id)
    # a later run, before which three samples that were sent are lost
    folder = Path(first.root.uri(record(first, "sample").path))
    assert len(sent) and folder.exists()
    log = Path(first.root.uri("runs", first.manifest.run_id, "allocations", "allocations.parquet"))
    extra = sent.tail(1).with_columns(sequence=pl.lit(len(sent)), first_index=pl.lit(30), count=pl.lit(3))
    pl.concat([sent, extra.select(sent.columns).cast(dict(sent.schema))]).write_parquet(log)  # pyright: ignore
    more = play(pipeline, tmp_path / "root", Budget(samples=80))
    drawn = read_allocations(more.root, more.manifest.run_id)
    assert drawn["reason"][0] == "hole" and drawn["first_index"][0] == 30 and drawn["count"][0] == 3


def test_a_gate_stops_a_broken_prompt(tmp_path: Path) -> None:
    gate = Gate(samples=40, most_truncated=0.1)
    result = budgeted(tmp_path, Budget(samples=400, gate=gate), answers=("one two three four five six seven",))
    assert result.manifest.state == "failed" and result.manifest.error is not None
    assert "100.0% of 40 were truncated (at most 10.0%)" in result.manifest.error
    assert counted(tmp_path / "tokens")[0] == 40
    other = tmp_path / "good"
    other.mkdir()
    passed = budgeted(other, Budget(samples=100, gate=gate))
    assert passed.manifest.state == "budget reached" and record(passed, "sample").computed == 100


def test_wall_time_is_a_deadline(tmp_path: Path) -> None:
    result = budgeted(tmp_path, Budget(hours=8 / 3600), latency=0.2)
    assert result.manifest.state == "budget reached"
    assert result.manifest.error is not None and "run.budget.hours" in result.manifest.error
    assert 0 < record(result, "sample").computed < 5_000


def test_a_dead_run_is_settled_by_the_next_on_its_account(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    life = context.Process(target=live, args=(str(tmp_path), 100_000))
    life.start()
    while not (tmp_path / "tokens").exists() or counted(tmp_path / "tokens")[0] < 100:
        time.sleep(0.02)
    life.kill()
    life.join()
    root = Root.at(str(tmp_path / "root"))
    dead = find_run(root, "latest")
    assert read_ledger(root).is_empty()
    budgeted(tmp_path, Budget(samples=10_000, hours=1 / 3600))
    entries = read_ledger(root).filter(pl.col("run_id") == dead.run_id)
    assert set(entries["kind"]) <= {"settle", "orphan"} and len(list(manifests(root))) == 2
    held = entries.filter(pl.col("kind") == "settle")["samples"].sum()
    lost = entries.filter(pl.col("kind") == "orphan")["samples"].sum()
    assert held + lost == read_allocations(root, dead.run_id)["count"].sum()
    assert RunSettings().budget is None


def test_a_policy_draws_around_what_is_there(tmp_path: Path) -> None:
    a, b = 0, 1
    held = RangeSet(Ranges.of(a, 3, 4))
    source = PolicySource(UniformSpec(), numbered("a", "b"), 20, held, Ranges.of(b, 0, 2))
    assert list(source.holes) == [(b, 0, 2)]
    assert list(source.take(6).ranges) == [(b, 2, 1), (b, 3, 1), (a, 0, 1), (b, 4, 1), (a, 1, 1), (b, 5, 1)]
    source.on_arrived(Ranges.of(a, 7, 3))  # carried over meanwhile
    drawn = [(number, index) for number, first, size in source.take(40).ranges for index in range(first, first + size)]
    assert len(drawn) == len(set(drawn)) == 40 - 6 - 4 - 2 - 3
    assert not {(a, index) for index in (0, 1, 3, 4, 5, 6, 7, 8, 9)} & set(drawn)
    assert not source.take(1).ranges and source.waits
    source.put_back(Ranges.of(a, 12, 2))
    assert list(source.take(5).ranges) == [(a, 12, 1), (a, 13, 1)]
    source.ban(np.array([a]))
    source.put_back(Ranges.of(a, 12, 2))
    assert not source.take(5).ranges


def test_a_problem_that_kills_engines_is_left_out_under_a_policy_too(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "problems.jsonl", 6)
    pipeline = scripted_pipeline(
        source, 12, Sampling(policy=UniformSpec()), slots=2, latency=0.01, deadly="What is 3 +"
    )
    result = play(pipeline, tmp_path / "root", Budget(samples=60))
    assert result.manifest.state == "incomplete" and result.manifest.error is not None
    assert "quarantined" in result.manifest.error
    counts = result.dataset("sample").group_by("problem_id").len().collect()
    assert "p3" not in counts["problem_id"].to_list() and len(counts) == 5
    assert all(found.complete for found in result.manifest.stages), "what is there is used"


def test_samples_that_cannot_be_drawn_are_not_asked_for_forever(tmp_path: Path) -> None:
    source = PolicySource(UniformSpec(), numbered("a", "b"), 10, RangeSet(), Ranges.none())
    for _ in range(40):
        drawn = source.take(4).ranges
        source.give_up(drawn[drawn.numbers == 0])
    assert not source.take(4).ranges and source.exhausted
    assert source.policy.counts.pending.tolist() == [0, 10]


def test_an_arm_that_waits_for_another_wants_nothing_until_that_one_goes_on() -> None:
    """Where the other one has no money left, nobody comes: the run ends, and doesn't wait for it."""
    spec = ComputeOptimalSpec(arms=2, calibration=16)
    one = PolicySource(spec, numbered("a", "b"), 40, RangeSet(), Ranges.none())
    other = PolicySource(spec, numbered("a", "b"), 40, RangeSet(), Ranges.none(), sibling_of=one)
    drawn = Ranges.none()
    while one.wants:
        drawn = Ranges.joined([drawn, one.take(2).ranges])
    assert one.waits and other.queue and not one.exhausted, "what was drawn is still to be judged"
    judged = {"predicted_answer": "1", "answer_key": "1", "is_correct": False, "status": "ok"}
    keys = [
        {"problem_key": "ab"[number], "sample_index": index}
        for number, first, size in drawn
        for index in range(first, first + size)
    ]
    one.observe(pl.DataFrame(keys).with_columns(pl.lit(value).alias(name) for name, value in judged.items()))
    assert not one.take(2).ranges and not one.wants and not one.waits and other.wants
    assert other.take(8).ranges and one.wants


def test_compute_optimal_weighs_all_calls_of_an_episode(tmp_path: Path) -> None:
    """A search that is right as often isn't worth its eight calls; where plain samples are never right it is."""
    write_problems(tmp_path / "problems.jsonl", 10)

    def drawn(name: str, plain: tuple[str, ...]) -> dict[str, int]:
        best = {"name": "best_of", "width": 8, "scorer": "constant"}
        arms = [
            {"name": "plain", "engine": {"kind": "scripted", "answers": plain, "slots": 8}},
            {
                "name": "search",
                "sample": {"strategy": best},
                "engine": {"kind": "scripted", "answers": ("0", "1", "2"), "slots": 8},
            },
        ]
        settings = {
            **{"load": {"source": str(tmp_path / "problems.jsonl")}, "sample": {"n": 24}, "arms": arms},
            **{"calibration": 12, "target": 20, "verify": {"operator": "verify.exact"}},
        }
        pipeline, _ = build_pipeline("arms", settings)
        result = play(pipeline, tmp_path / name, None)
        assert result.manifest.state == "done", result.manifest.error
        rows = {arm: result.dataset(f"sample_{arm}").collect() for arm in ("plain", "search")}
        assert rows["search"]["episode"].n_unique() * 8 == rows["search"]["sample_index"].n_unique()
        return {arm: one.height for arm, one in rows.items()}

    close = drawn("close", ("0", "1", "2"))
    assert close["search"] == 10 * 12 * 8, "nothing but the calibration"
    assert close["plain"] == 10 * 24
    far = drawn("far", ("7",))
    assert far["plain"] == 10 * 12 and far["search"] == 10 * 24 * 8


def test_compute_optimal_chooses_between_sampling_stages(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", 10)
    arms = [
        {
            "name": name,
            "sample": {"temperature": temperature},
            "engine": {"kind": "scripted", "answers": answers, "slots": 4, "latency": 0.02},
        }
        for name, temperature, answers in (("good", 0.5, ("0", "1", "2")), ("bad", 1.5, ("7",)))
    ]
    settings = {
        **{"load": {"source": str(tmp_path / "problems.jsonl")}, "sample": {"n": 60}, "arms": arms},
        **{"calibration": 6, "target": 5, "verify": {"operator": "verify.exact"}},
    }
    pipeline, _ = build_pipeline("arms", settings)
    result = play(pipeline, tmp_path / "root", Budget(samples=500))
    assert result.manifest.state == "done", result.manifest.error
    right = result.dataset("verify_good").group_by("problem_key").agg(pl.col("is_correct").sum()).collect()
    assert len(right) == 10 and (right["is_correct"] >= 5).mean() >= 0.9  # pyright: ignore[reportOperatorIssue]
    bad = result.dataset("sample_bad").group_by("problem_key").len().collect()
    assert bad["len"].to_list() == [6] * 10, "nothing but the calibration"
    log = read_allocations(result.root, result.manifest.run_id)
    assert set(log["stage"]) == {"sample_good", "sample_bad"} and log["sequence"].n_unique() == len(log)
    assert log["count"].sum() == record(result, "sample_good").computed + record(result, "sample_bad").computed
    again = play(pipeline, tmp_path / "root", Budget(samples=500))
    assert sum(found.computed for found in again.manifest.stages) == 0

    uneven = {"arms": [arms[0], {**arms[1], "sample": {"n": 30}}]}
    with pytest.raises(BadInput, match="sample_good 60, sample_bad 30"):
        play(build_pipeline("arms", settings | uneven)[0], tmp_path / "uneven")

    lonely = scripted_pipeline(tmp_path / "problems.jsonl", 10, Sampling(policy=ComputeOptimalSpec()))
    with pytest.raises(BadInput, match="chooses between 2 sampling stages with the same policy, and there are 1"):
        play(lonely, tmp_path / "other")
