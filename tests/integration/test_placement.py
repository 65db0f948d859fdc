"""Placement on a cluster of four simulated nodes with eight GPUs each: where replicas lie, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.driving.driver import run_pipeline

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from cluster.ray.nodes import live_nodes
from cluster.ray.placement import Placement
from cluster.ray.runner import RayRunner
from cluster.ray.worker import RayWorker
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.score.outcome import ScoreOutcome
from pipelines.graph import Pipeline
from schemas.engine import EngineSpec, ScriptedSpec
from schemas.errors import BadInput, EngineFailed, WorkerLost
from tests.support import QUICK, scripted_pipeline, stage, write_problems

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Zones a and b, two nodes each; a's GPUs have 80 GB, b's 40."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_prestart_worker_first_driver", "0")  # or each node starts a process for each CPU
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        try:
            for zone, kind in [("a", "H100"), ("a", "H100"), ("b", "A100"), ("b", "A100")]:
                _add(made, {"zone": zone}, {f"accelerator_type:{kind}": 1})
            yield made
        finally:
            made.shutdown()


def _add(cluster: Cluster, labels: dict[str, str], resources: dict[str, float] | None = None) -> Any:
    return cluster.add_node(num_cpus=12, num_gpus=8, labels=labels, resources=resources or {})


@pytest.fixture(scope="module")
def connected(cluster: Cluster) -> Iterator[str]:
    """Join the cluster once, as a runner does."""
    first = RayRunner(cluster.address)
    first.check([ScriptedSpec()])
    yield cluster.address
    first.close()


@pytest.fixture
def runner(connected: str) -> Iterator[RayRunner]:
    """A runner after which no group is left."""
    made = RayRunner(connected)
    yield made
    made.close()
    _until(lambda: not _groups())


@dataclass(frozen=True)
class Job:
    """An engine's worker that tells where it is."""

    stage: str
    engine: EngineSpec

    @property
    def worker(self) -> type[Any]:
        return Where


@dataclass(frozen=True)
class Seen:
    node: str
    group: str
    gpus: frozenset[str]
    environment: dict[str, str]


class Where:
    def __init__(self, job: Job) -> None:
        self.job = job

    async def start(self) -> Seen:
        context = ray.get_runtime_context()
        gpus = frozenset(map(str, context.get_accelerator_ids()["GPU"]))
        vllm = {key: value for key, value in os.environ.items() if key.startswith("VLLM_RAY")}
        return Seen(context.get_node_id(), context.get_placement_group_id() or "", gpus, vllm)

    async def ranks(self) -> list[tuple[str, frozenset[str]]]:
        """Start what vLLM would start in the group: a worker for each rank, with its GPU."""
        from ray.util.placement_group import get_current_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = get_current_placement_group()
        assert group is not None
        indices = os.environ.get("VLLM_RAY_BUNDLE_INDICES")
        chosen = [int(at) for at in indices.split(",")] if indices else range(self.job.engine.ranks)
        gpus = float(os.environ.get("VLLM_RAY_PER_WORKER_GPUS", "1"))

        @ray.remote(num_cpus=0, num_gpus=gpus)
        def rank() -> tuple[str, frozenset[str]]:
            context = ray.get_runtime_context()
            return context.get_node_id(), frozenset(map(str, context.get_accelerator_ids()["GPU"]))

        strategies = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=at) for at in chosen]
        return await asyncio.gather(*(rank.options(scheduling_strategy=strategy).remote() for strategy in strategies))

    async def drain(self) -> None: ...


def spec(**fields: Any) -> ScriptedSpec:
    return ScriptedSpec.model_validate(fields)


def _groups() -> list[dict[str, Any]]:
    return [group for group in placement_group_table().values() if group["state"] != "REMOVED"]


def _nodes(group: dict[str, Any]) -> set[str]:
    return set(group["bundles_to_node_id"].values())


def _until(true: Any, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _zone(node: str) -> str | None:
    return next(each.labels.get("zone") for each in live_nodes() if each.id == node)


def _start(runner: RayRunner, engine: EngineSpec, stage: str = "s") -> list[tuple[RayWorker, Future[Seen]]]:
    workers = [runner.engine_worker(Job(stage, engine), number) for number in range(engine.replicas)]
    return [(worker, worker.call(Where.start)) for worker in workers]


def test_the_bundles_of_a_replica_lie_on_one_node(runner: RayRunner) -> None:
    small, large = spec(gpus=1, replicas=2, model="small"), spec(size=8, gpus=1, replicas=3)
    runner.check([small, large])
    places = [future.result(300) for _, future in [*_start(runner, small, "a"), *_start(runner, large, "b")]]
    groups = {group["placement_group_id"]: group for group in _groups()}
    assert len(groups) == 5
    assert all(group["strategy"] == "STRICT_PACK" for group in groups.values())
    assert all(_nodes(groups[seen.group]) == {seen.node} for seen in places)
    assert len({seen.node for seen in places[2:]}) == 3, "the small ones left room for three large ones"
    assert [len(seen.gpus) for seen in places] == [1, 1, 0, 0, 0]


def test_a_replica_larger_than_any_node_spans_few(runner: RayRunner) -> None:
    engine = spec(size=12, gpus=1)
    runner.check([engine])
    [(_, future)] = _start(runner, engine)
    seen = future.result(300)
    [group] = _groups()
    assert group["strategy"] == "PACK"
    assert len(_nodes(group)) == 2
    assert seen.node == group["bundles_to_node_id"][0]


def test_labels_and_gpu_memory_choose_the_nodes(runner: RayRunner) -> None:
    engines = [
        spec(model="b", gpus=8, labels={"zone": "b"}),
        spec(model="large", gpus=8, labels={"zone": "in(a,b)"}, gpu_memory=80, replicas=2),
    ]
    runner.check(engines)
    in_b, large = [_start(runner, engine, engine.model) for engine in engines]
    assert [_zone(future.result(300).node) for _, future in in_b] == ["b"]
    assert [_zone(future.result(300).node) for _, future in large] == ["a", "a"]


def test_fractions_share_a_gpu_side_by_side(runner: RayRunner) -> None:
    engine = spec(gpus=0.5, replicas=2, labels={"zone": "b"})
    runner.check([engine])
    first, second = (future.result(300) for _, future in _start(runner, engine))
    assert first.group != second.group
    if first.node == second.node:
        assert first.gpus == second.gpus


def test_engines_that_take_turns_have_the_same_gpus(runner: RayRunner) -> None:
    policy = spec(model="policy", gpus=1, replicas=2, takes_turns="t")
    reward = spec(model="reward", gpus=1, replicas=2, takes_turns="t")
    runner.check([policy, reward])
    one = [future.result(300) for _, future in _start(runner, policy, "sample")]
    other = _start(runner, reward, "score")
    two = [future.result(300) for _, future in other]
    assert [(seen.group, seen.gpus) for seen in one] == [(seen.group, seen.gpus) for seen in two]
    assert len({seen.group for seen in one}) == 2
    other[1][0].kill()
    assert len(_groups()) == 2, "the policy is still in it"
    again = runner.engine_worker(Job("score", reward), 1)
    assert again.call(Where.start).result(300).group == one[1].group


def test_ranks_take_turns_too_and_smaller_engines_sit_side_by_side(runner: RayRunner) -> None:
    policy = spec(model="policy", size=4, gpus=1, takes_turns="t")
    reward = spec(model="reward", size=2, gpus=1, replicas=2, takes_turns="t")
    runner.check([policy, reward])
    workers = [*_start(runner, policy, "sample"), *_start(runner, reward, "score")]
    seen = [future.result(300) for _, future in workers]
    assert len({each.group for each in seen}) == 1
    assert [each.environment.get("VLLM_RAY_BUNDLE_INDICES") for each in seen] == [None, "0,1", "2,3"]
    assert {each.environment["VLLM_RAY_PER_WORKER_GPUS"] for each in seen} == {"0.5"}
    ranks, others = (worker.call(Where.ranks).result(300) for worker, _ in (workers[0], workers[2]))
    assert len({next(iter(gpus)) for _, gpus in ranks}) == 4
    assert others == ranks[2:]


def test_impossible_engines_are_refused_before_anything_starts(connected: str, tmp_path: Path) -> None:
    pipeline = scripted_pipeline(write_problems(tmp_path / "p.jsonl", 2), 4, size=8, gpus=1, gpu_memory=80, replicas=3)
    runner = RayRunner(connected)
    with pytest.raises(BadInput) as refusal:
        run_pipeline(pipeline, runner, str(tmp_path / "data"), QUICK)
    runner.close()
    for text in (
        "wants 3 replicas, each with 8 x 1 GPU of at least 80 GB",
        "there is room for 2: too few GPUs",
        "each 8 x H100 (80 GB), 12 CPUs, zone=a",
        "Lower engine.replicas",
    ):
        assert text in str(refusal.value), refusal.value
    assert _groups() == []
    assert list((tmp_path / "data").glob("samples/*/*.parquet")) == []


def test_a_run_with_placed_replicas(connected: str, tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 8)
    pipeline = Pipeline("placed")
    problems = pipeline.stage("load", Load(source=str(source)))
    sampling = spec(size=8, gpus=1, replicas=2, latency=0.02, slots=16, labels={"zone": "a"})
    samples = pipeline.stage("sample", Sampling(n=50), engine=sampling, problems=problems)
    pipeline.stage("score", ScoreOutcome(), engine=spec(model="reward", gpus=0.5), problems=problems, samples=samples)
    runner = RayRunner(connected)
    result = run_pipeline(pipeline, runner, str(tmp_path / "data"), QUICK)
    assert result.manifest.state == "done"
    assert stage(result, "score")["computed"] == 400
    runner.close()
    _until(lambda: not _groups())


def test_a_group_whose_gpus_are_used_waits_for_them(runner: RayRunner) -> None:
    engine = spec(size=8, gpus=1, replicas=2, labels={"zone": "b"})
    runner.check([engine])
    holding = _start(runner, engine)
    for _, future in holding:
        future.result(300)
    other = RayRunner(runner.address)
    other.check([engine])
    first, second = _start(other, engine)
    with pytest.raises(TimeoutError):
        first[1].result(1)
    holding[0][0].kill()
    _until(lambda: first[1].done() or second[1].done())
    waiting = second if first[1].done() else first
    assert not waiting[1].done()
    with pytest.raises(WorkerLost, match="still waiting for a place"):
        waiting[0].call_last(Where.drain).result(0.1)
    other.close()


def test_where_nodes_may_join_nothing_is_refused(runner: RayRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = spec(gpus=1, gpu_memory=500)
    with pytest.raises(BadInput, match="GRISTMILL_NODES_MAY_JOIN=1"):
        runner.check([engine])
    monkeypatch.setenv("GRISTMILL_NODES_MAY_JOIN", "1")
    runner.check([engine])
    [(_, future)] = _start(runner, engine)
    with pytest.raises(TimeoutError):
        future.result(0.5)
    [group] = _groups()
    assert group["state"] == "PENDING"


def test_what_can_never_be_had_is_told_and_what_has_become_possible_is_placed_anew(
    runner: RayRunner, cluster: Cluster
) -> None:
    """The last test: the cluster has a node more from here on."""
    runner._placement = Placement(patience=1.0)
    never = runner.engine_worker(Job("s", spec(gpus=1, gpu_memory=500)), 0)  # as if the node that it was on were lost
    with pytest.raises(EngineFailed, match=r"stage s: replica 0 can't be placed any more.* 500 GB"):
        never.call(Where.start).result(300)
    with pytest.raises(EngineFailed):
        never.call_last(Where.drain).result(0.1)
    engine = spec(gpus=8, gpu_memory=80, replicas=3)
    with pytest.raises(BadInput, match="there is room for 2"):
        runner.check([engine])
    workers = _start(runner, engine)
    assert [_zone(future.result(300).node) for _, future in workers[:2]] == ["a", "a"]
    worker, waiting = workers[2]
    with pytest.raises(TimeoutError):
        waiting.result(2)
    _add(cluster, {"gristmill/gpu-memory": "80", "zone": "c"})
    with pytest.raises(WorkerLost, match="replica 2 waited for nodes"):
        waiting.result(300)
    worker.kill()
    worker = runner.engine_worker(Job("s", engine), 2)
    assert _zone(worker.call(Where.start).result(300).node) == "c"
