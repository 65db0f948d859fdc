"""Processes that are killed without warning: the driver, workers, whole nodes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import Figures
from tests.chaos.support import FULL, ORPHAN, SEED, Job, check_same, delayed, descendants, ends_within, wait_for
from tests.commands import Command

pytestmark = [pytest.mark.chaos, pytest.mark.ray]
SLOW = {"operator": "tests.chaos.operators:SlowVerify", "seconds": 0.5}


def test_driver_is_killed(tmp_path: Path, figures: Figures) -> None:
    """At any moment of its life; then the same command again, on the other runner, until it is done."""
    wanted, chance, runners = 20 if FULL else 4, random.Random(f"driver {SEED}"), cycle(["local", "ray"])
    kills = repeated = 0
    allowed = 0.0
    for number in count():
        job = Job(tmp_path / str(number), n=500, sample={"seed": number})
        may = 0.0
        for runner in runners:
            process = job.start(runner)
            if kills == wanted or _ends_before_its_time(process, job, chance):
                assert job.finish(process) == 0, job.log()
                break
            slow = delayed(process.pid)
            process.kill()
            process.wait()
            kills += 1
            may += job.allowed(more_seconds=slow + (ORPHAN if runner == "ray" else 0.0))
            assert job.lost() <= may
        check_same(job)
        assert job.repeated() <= may
        repeated, allowed = repeated + job.repeated(), allowed + may
        if kills == wanted:
            break
    figures |= {"kills": kills, "runs": number + 1}
    figures["calls repeated per kill"] = f"{repeated / kills:.0f} (allowed {allowed / kills:.0f})"


def _ends_before_its_time(process: Command, job: Job, chance: random.Random) -> bool:
    """Wait for the moment at which a driver is to be killed: while it begins, or some time after its first sample."""
    before = len(job.calls())
    if chance.random() < 0.25:
        return ends_within(process, chance.uniform(0.2, 5.0))
    while len(job.calls()) == before:
        if ends_within(process, 0.05):
            return True
    return ends_within(process, chance.uniform(0.0, 5.0))


def test_workers_are_killed(tmp_path: Path, figures: Figures) -> None:
    """Those that sample, those that verify, and idle ones; the run goes on by itself."""
    wanted, chance = 20 if FULL else 4, random.Random(f"worker {SEED}")
    kills: Counter[str] = Counter()
    repeated = 0
    for number in count():
        job = Job(tmp_path / str(number), n=1000 if FULL else 400, sample={"seed": number}, verify=SLOW)
        job.run["engine_restarts"] = 20  # several in a row may die before they have drawn anything
        job.write()
        process = job.start("ray")
        samplers, slow = 0, 0.0
        while kills.total() < wanted and not ends_within(process, chance.uniform(0.3, 2.0)):
            slow = max(slow, delayed(process.pid))
            if (struck := _kill_a_worker(process, chance)) is not None:
                kills[struck] += 1
                samplers += struck == "sampler"
                job.look()
                if struck == "task" and kills["task"] % 2 == 0:  # a row that takes four workers with it is left out
                    before = _verified(job)
                    while _verified(job) == before and not ends_within(process, 0.1):
                        pass
        assert job.finish(process) == 0, job.log()
        check_same(job)
        assert job.repeated() <= samplers * job.allowed(more_seconds=slow)
        repeated += job.repeated()
        if kills.total() == wanted:
            break
    figures |= {"kills": dict(kills), "runs": number + 1}
    figures["calls repeated per sampler"] = f"{repeated / max(1, kills['sampler']):.0f} (allowed {job.allowed():.0f})"


def _verified(job: Job) -> int:
    """Return how many pieces of verification came back, from the files they wrote."""
    return len(list(Path(job.root).glob("verdicts/*/*/*.parquet")))


KINDS = {"task": "ray::_run", "sampler": "ray::EngineWorker", "idle": "ray::IDLE"}


def _kill_a_worker(driver: Command, chance: random.Random) -> str | None:
    """Kill one of Ray's workers, of a kind that is chosen first; return the kind, or None where the driver ended."""
    kind = chance.choices(list(KINDS), weights=[5, 4, 1])[0]
    while not ends_within(driver, 0.02):
        found = [pid for pid, title in descendants(driver.pid) if title.startswith(KINDS[kind])]
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
                return kind
    return None


def test_nodes_are_lost(tmp_path: Path, figures: Figures) -> None:
    """Each with all that ran on it, another one coming; samplers, tasks and nothing else are on the nodes."""
    from ray.cluster_utils import Cluster

    wanted, chance = 5 if FULL else 1, random.Random(f"node {SEED}")
    job = Job(tmp_path / "job", n=1000 if FULL else 200, replicas=2, verify=SLOW)
    job.run["engine_restarts"] = 20
    job.write()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=2)
        process = job.start("ray", "--address", cluster.address)
        losses, busy, slow = 0, 0, 0.0
        while losses < wanted:
            wait_for(job.calls, process)
            assert not ends_within(process, chance.uniform(0.5, 4.0)), "it was done before the last node was lost"
            node, sampling = _choose_node(cluster, chance)
            busy += sampling
            slow = max(slow, delayed(process.pid), *(delayed(pid) for pid in _raylets(cluster)))
            cluster.remove_node(node, allow_graceful=False)
            losses += 1
            job.look()
            cluster.add_node(num_cpus=2)
        assert job.finish(process) == 0, job.log()
    finally:
        cluster.shutdown()
    check_same(job)
    assert job.repeated() <= busy * job.allowed(more_seconds=slow)
    figures |= {"losses": losses, "with samplers": busy}
    figures["calls repeated per loss"] = f"{job.repeated() / losses:.0f} (allowed {job.allowed() * busy / losses:.0f})"


def _raylets(cluster: Any) -> list[int]:
    return [info.process.pid for node in cluster.worker_nodes for info in node.all_processes["raylet"]]


def _choose_node(cluster: Any, chance: random.Random) -> tuple[Any, bool]:
    """Choose a node to lose, more often than not one that samples; say whether it does."""
    sampling: dict[bool, list[Any]] = {True: [], False: []}
    for node in cluster.worker_nodes:
        raylets = [info.process.pid for info in node.all_processes["raylet"]]
        titles = [title for pid in raylets for _, title in descendants(pid)]
        sampling[any(title.startswith("ray::EngineWorker") for title in titles)].append(node)
    wanted = bool(sampling[True]) and (not sampling[False] or chance.random() < 0.7)
    return chance.choice(sampling[wanted]), wanted
