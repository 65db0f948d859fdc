"""An order is taken once: by the run, which does it, or by whoever gave it and withdraws it; never by both."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cluster.records.orders as orders
from cluster.driving.ear import Ear
from cluster.driving.steering import Steering
from cluster.records.orders import KEY, give, new_order, take
from cluster.runners.local import LocalRunner
from cluster.storage.lease import Lease, write_lease
from cluster.storage.root import Root
from schemas.errors import BadInput, GristmillError, RunIncomplete, StorageUnavailable
from schemas.manifest import RunManifest
from schemas.orders import Order
from tests.integration.test_orders import attentive, slow
from tests.orders import Going, computed
from tests.support import QUICK

assert attentive, "runs look more often than usual here, too"

# -- two takers ------------------------------------------------------------------------------------------------------


def running(root: Root, run_id: str = "r-1") -> None:
    """Write down that a run is at work."""
    manifest = RunManifest(run_id=run_id, pipeline="r", state="running", started=new_order("pause").time)
    root.write_bytes(manifest.model_dump_json().encode(), "runs", run_id, "manifest.json")
    write_lease(root, f"runs/{run_id}", Lease.of(run_id, 0, 600.0), "heartbeat.json")


@dataclass(frozen=True)
class Meeting(Root):
    """A root at which two who look at the waiting order have both seen it before either does anything."""

    barrier: threading.Barrier

    def read_bytes(self, *parts: str) -> bytes:
        data = super().read_bytes(*parts)
        if parts[-1] == KEY:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.barrier.wait(0.2)
        return data


def both(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what two threads come to; an error as such."""
    found: list[Any] = [None, None]

    def note(at: int, act: Callable[[], Any]) -> None:
        try:
            found[at] = act()
        except GristmillError as error:
            found[at] = error

    threads = [threading.Thread(target=note, args=(at, act)) for at, act in enumerate((one, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return found[0], found[1]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "root")
    return request.getfixturevalue("s3").root("orders")


def test_an_order_is_done_or_withdrawn_and_never_both(place: str) -> None:
    running(Root.at(place))
    taken = 0
    for _ in range(8):
        root, order = Meeting(place, threading.Barrier(2)), new_order("pause")
        heard, told = both(partial(_until_taken, root, order), partial(give, root, "r-1", order, -1.0))
        assert isinstance(told, RunIncomplete)
        if "was withdrawn" in str(told):
            assert heard is None, "what was withdrawn is done by nobody"
        else:
            assert "has taken the order" in str(told) and heard == order
            taken += 1
        assert not Root.at(place).exists("runs", "r-1", KEY)
    print(f"{taken} of 8 were taken")


def _until_taken(root: Root, order: Order) -> Order | str | None:
    """Take an order as a run does, which looks again and again."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if (found := take(root, "r-1")) is not None:
            return found
        if root.exists("runs", "r-1", "taken", order.id):
            return None
    raise AssertionError("nobody claimed it")


def test_of_two_who_take_one_does_it(place: str) -> None:
    root = Meeting(place, threading.Barrier(2))
    for _ in range(4):
        order = new_order("resume")
        assert root.create(order.model_dump_json().encode(), "runs", "r-1", KEY)
        found = both(lambda: take(root, "r-1"), lambda: take(root, "r-1"))
        assert sorted(found, key=str) == sorted((order, None), key=str)


def test_an_order_that_comes_again_is_done_once(tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    order = new_order("cancel")
    for expected in (order, None, None):
        root.create(order.model_dump_json().encode(), "runs", "r-1", KEY)
        assert take(root, "r-1") == expected
        assert not root.exists("runs", "r-1", KEY), "it doesn't stand in the way of others"


def test_who_withdrew_and_died_leaves_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root.at(tmp_path)
    running(root)
    removed = Root.remove
    monkeypatch.setattr(Root, "remove", lambda *_, **__: None)
    with pytest.raises(RunIncomplete, match="the order was withdrawn"):
        give(root, "r-1", new_order("cancel"), -1.0)
    monkeypatch.setattr(Root, "remove", removed)
    assert root.exists("runs", "r-1", KEY)
    assert take(root, "r-1") is None and not root.exists("runs", "r-1", KEY)


def test_who_doesnt_wait_withdraws_it(tmp_path: Path) -> None:
    root, order = Root.at(tmp_path), new_order("cancel")
    running(root)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give(root, "r-1", order, sleep=interrupted)
    assert not root.exists("runs", "r-1", KEY)
    root.create(order.model_dump_json().encode(), "runs", "r-1", KEY)
    assert take(root, "r-1") is None


def test_an_order_is_taken_though_it_cant_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, order = Root.at(tmp_path), new_order("pause")
    root.create(order.model_dump_json().encode(), "runs", "r-1", KEY)
    removed = Root.remove

    def away(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("the storage is away")

    monkeypatch.setattr(Root, "remove", away)
    assert take(root, "r-1") == order
    monkeypatch.setattr(Root, "remove", removed)
    assert take(root, "r-1") is None and not root.exists("runs", "r-1", KEY)


# -- too late ----------------------------------------------------------------------------------------------------------


def test_an_ear_that_was_stopped_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that hangs in its storage doesn't take an order when the run is over: whoever gave it withdraws it."""
    monkeypatch.setattr("cluster.driving.ear.JOIN_SECONDS", 0.05)
    root, order = Root.at(tmp_path), new_order("pause")
    looks, goes_on = threading.Event(), threading.Event()
    read = Root.read_bytes

    def slowly(self: Root, *parts: str) -> bytes:
        data = read(self, *parts)
        looks.set()
        assert goes_on.wait(60)
        return data

    monkeypatch.setattr(Root, "read_bytes", slowly)
    root.create(order.model_dump_json().encode(), "runs", "r-1", KEY)
    ear = Ear(root, "r-1", seconds=0.01)
    ear.start()
    assert looks.wait(60)
    ear.stop()
    assert list(ear.heard()) == []
    goes_on.set()
    monkeypatch.setattr("cluster.driving.ear.JOIN_SECONDS", 60.0)
    ear.stop()
    assert list(ear.heard()) == [] and root.exists("runs", "r-1", KEY)


def test_what_was_heard_too_late_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that hangs until the run has ended: the order is answered in the run's last manifest all the same."""
    monkeypatch.setattr("cluster.driving.ear.JOIN_SECONDS", 0.05)
    claims, ended = threading.Event(), threading.Event()
    claim = orders._claim

    def slowly(root: Root, run_id: str, order: Order, to_be: Any) -> bool:
        if order.action == "pause" and to_be == "done":
            claims.set()
            assert ended.wait(60)
        return claim(root, run_id, order, to_be)

    closed = Steering.conclude

    def conclude(self: Steering) -> None:
        ended.set()
        monkeypatch.setattr("cluster.driving.ear.JOIN_SECONDS", 60.0)
        closed(self)

    monkeypatch.setattr("cluster.records.orders._claim", slowly)
    monkeypatch.setattr(Steering, "conclude", conclude)
    with Going(LocalRunner(), slow(tmp_path), tmp_path / "root", QUICK) as going:
        going.when(computed)
        order = new_order("pause", "anna")
        assert going.root.create(order.model_dump_json().encode(), "runs", going.run_id, KEY)
        assert claims.wait(60)
        going.die = True
        ended_as = going.end()
    assert ended_as.state == "interrupted"
    assert [(one.id, one.result, one.answer) for one in ended_as.orders] == [(order.id, "refused", "the run is ending")]
    with pytest.raises(BadInput, match="refuses: the run is ending"):
        orders._give_up(going.root, going.run_id, order, True)


def test_a_cancel_in_the_last_turn_leaves_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came when everything was there: the run is done, and says that it was told."""
    look, told = Steering.look, list[Order]()

    def at_last(self: Steering) -> None:
        if not told and self._states and all(state.complete for state in self._states.values()):
            told.append(new_order("cancel", "anna", "enough"))
            self._ear._heard.put(told[0])
        look(self)

    monkeypatch.setattr(Steering, "look", at_last)
    with Going(LocalRunner(), slow(tmp_path, 4), tmp_path / "root", QUICK) as going:
        manifest = going.end()
    assert told and (manifest.state, manifest.error) == ("done", None)
    assert [(one.action, one.result) for one in manifest.orders] == [("cancel", "applied")]


GIVEN = {"id": "abcdef0123456789", "action": "set", "by": "anna", "time": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "document",
    [
        b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"id": "abcdef01"}',
        json.dumps({**GIVEN, "values": {"x": "y" * 3_000}}).encode(),
        json.dumps({**GIVEN, "values": {"x": "\x1b[2J"}}).encode(),
        json.dumps({**GIVEN, "reason": "x" * 10_000_000}).encode(),
        json.dumps({**GIVEN, "reason": "a\x00b"}).encode(),
        json.dumps({**GIVEN, "by": " \n "}).encode(),
        json.dumps({**GIVEN, "by": "\u202eanna"}).encode(),
        json.dumps({**GIVEN, "by": "\x1c"}).encode(),
        json.dumps({**GIVEN, "a\x1b[2J": 1}).encode(),
        json.dumps({**GIVEN, "k" * 100_000: 1}).encode(),
        json.dumps({**GIVEN, "id": "../../../etc/passwd"}).encode(),
        json.dumps({**GIVEN, "id": "abcdef01\n"}).encode(),
        json.dumps({**GIVEN, "problem": "\ud800"}).encode(),
        json.dumps({**GIVEN, "values": {"run.budget.tokens": float("nan")}}).encode(),
        json.dumps({**GIVEN, "run_id": "another"}).encode(),
        json.dumps({**GIVEN, "result": "applied"}).encode(),
        json.dumps({**GIVEN, "values": [["x", 1]]}).encode(),
    ],
)  # fmt: skip
def test_what_isnt_an_order_is_thrown_away(tmp_path: Path, document: bytes) -> None:
    root = Root.at(tmp_path)
    root.create(document, "runs", "r-1", KEY)
    said = take(root, "r-1")
    assert isinstance(said, str) and said.startswith("an order that can't be read was thrown away: ")
    assert len(said) < 300 and said.isprintable() and root.list("runs", "r-1") == []
