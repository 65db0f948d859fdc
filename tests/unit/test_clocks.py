"""Two machines' clocks: a lease has lapsed only for who has seen it unchanged for its length, by a clock of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster.records.reader import HEARTBEAT, alive, seems_alive
from cluster.storage import lease as leases
from cluster.storage.lease import Lease, read_lease, watch, write_lease
from cluster.storage.root import Root
from cluster.storage.store import Store
from schemas.datasets import Verdict
from schemas.errors import LeaseLost, StoreBusy

FOLDER = "verdicts/s/v"
ELSEWHERE = {"machine": "another", "pid": 1, "born": 0}
HOUR = 3600.0


class Clocks:
    """The clocks of this process: what passes, and how far the wall clock is off."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.off = 0.0

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(leases, "_first_seen", {})
    monkeypatch.setattr(leases, "elapsed", lambda: made.passed)
    monkeypatch.setattr(leases, "wall", lambda: 1e9 + made.passed + made.off)
    monkeypatch.setattr(leases, "pause", made.sleep)
    return made


def elsewhere(root: Root, number: int, clock: float) -> Lease:
    """Publish a lease of another machine whose clock is ``clock`` seconds away from ours."""
    mine = Lease.of("other", 0, 60.0)
    made = mine.model_copy(update={**ELSEWHERE, "expires": mine.expires + clock + number})
    write_lease(root, FOLDER, made)
    return made


@pytest.mark.parametrize("clock", [-HOUR, 0.0, HOUR], ids=["behind", "equal", "ahead"])
@pytest.mark.parametrize("renews", [True, False])
def test_who_renews_is_alive_and_who_does_not_is_not(
    tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, clock: float, renews: bool
) -> None:
    """Whatever the other clock says."""
    root = Root.at(tmp_path)
    elsewhere(root, 0, clock)
    began, renewals = clocks.passed, 0

    def sleep(seconds: float) -> None:
        nonlocal renewals
        clocks.sleep(seconds)
        if renews and clocks.passed - began >= 15 * (renewals + 1):
            renewals += 1
            elsewhere(root, renewals, clock)

    monkeypatch.setattr(leases, "pause", sleep)
    for _ in range(200):
        found = watch(lambda: read_lease(root, FOLDER))
        assert found is not None
        if not found.alive():
            break
        sleep(1.0)
    assert found.alive() == renews
    if not renews:
        assert 60.0 <= clocks.passed - began <= 62.0


def test_a_store_is_not_taken_from_a_holder_whose_clock_is_behind(tmp_path: Path, clocks: Clocks) -> None:
    root = Root.at(tmp_path)
    Store(root, FOLDER, Verdict, {}).create()
    elsewhere(root, 0, -HOUR)
    began = clocks.passed
    Store(root, FOLDER, Verdict, {}).acquire("next", 60.0)
    assert clocks.passed - began >= 60.0, "it was taken without a look"


def test_a_store_whose_holder_renews_is_refused(
    tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root.at(tmp_path)
    Store(root, FOLDER, Verdict, {}).create()
    elsewhere(root, 0, -HOUR)

    def sleep(seconds: float) -> None:
        clocks.sleep(seconds)
        elsewhere(root, int(clocks.passed), -HOUR)

    monkeypatch.setattr(leases, "pause", sleep)
    with pytest.raises(StoreBusy, match="run other"):
        Store(root, FOLDER, Verdict, {}).acquire("next", 60.0)


@pytest.mark.parametrize("jump", [-24 * HOUR, HOUR, 24 * HOUR])
def test_a_holder_whose_clock_jumps_goes_on(tmp_path: Path, clocks: Clocks, jump: float) -> None:
    root = Root.at(tmp_path)
    store = Store(root, FOLDER, Verdict, {})
    store.acquire("run", 60.0)
    clocks.off = jump
    if not store.renew():
        store.reclaim()
    assert store.renew()
    store.release()


def test_a_holder_that_slept_relies_on_nothing(tmp_path: Path, clocks: Clocks) -> None:
    """Also where its wall clock was set back meanwhile."""
    root = Root.at(tmp_path)
    store = Store(root, FOLDER, Verdict, {})
    store.acquire("run", 60.0)
    clocks.passed += 100.0
    clocks.off = -24 * HOUR
    assert not store.renew()
    other = Store(root, FOLDER, Verdict, {})
    write_lease(root, FOLDER, Lease.of("run", 1, 60.0).model_copy(update={"released": True}))
    other.acquire("next", 60.0)
    with pytest.raises(LeaseLost):
        store.reclaim()


def test_a_run_is_watched_before_it_is_called_dead(tmp_path: Path, clocks: Clocks) -> None:
    root = Root.at(tmp_path)
    mine = Lease.of("run", 0, 60.0)
    late = mine.model_copy(update={**ELSEWHERE, "expires": mine.expires - HOUR})
    write_lease(root, "runs/run", late, HEARTBEAT)
    assert not seems_alive(root, "run")
    began = clocks.passed
    assert not alive(root, "run")
    assert clocks.passed - began >= 60.0


def test_what_was_seen_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch, clocks: Clocks) -> None:
    monkeypatch.setattr(leases, "MOST_SEEN", 10)
    threads = [threading.Thread(target=lambda: [Lease.of("r", at, 60.0) for at in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leases._first_seen) <= 14
