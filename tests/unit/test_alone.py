"""Being alone: who is together with whom, and what deserves to be tried again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from cluster.sandbox.inside.isolate import delay, waited_of
from cluster.tools.alone import Alone, was_kept_waiting
from cluster.tools.processes import ProcessWorkers
from operators.workers import TimedOut


def test_one_who_wants_to_be_alone_comes_before_those_who_come_later() -> None:
    alone, order = Alone(), list[str]()
    inside, leave, wants = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with alone.together():
            inside.set()
            leave.wait()
            order.append("first")

    def single() -> None:
        wants.set()
        with alone.alone():
            order.append("alone")

    def later() -> None:
        with alone.together():
            order.append("later")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    inside.wait()
    threads.append(threading.Thread(target=single))
    threads[1].start()
    wants.wait()
    while not alone._wanting:  # pyright: ignore[reportPrivateUsage]
        time.sleep(0.001)
    threads.append(threading.Thread(target=later))
    threads[2].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "alone", "later"]


def test_what_waited_for_a_core_is_tried_again_and_what_slept_is_not() -> None:
    assert was_kept_waiting(1.1, 5.0)
    assert not was_kept_waiting(0.9, 5.0)
    assert not was_kept_waiting(0.0, 0.1)


def test_the_kernel_tells_how_long_a_thread_has_waited() -> None:
    assert delay("1000000000 2500000000 7\n") == 2.5
    assert delay("") == 0.0
    assert waited_of(1 << 30) == 0.0
    if Path("/proc/self/schedstat").exists():
        assert waited_of(int(Path("/proc/self").readlink().name)) >= 0.0


def test_a_call_that_ends_itself_says_how_long_it_waited() -> None:
    with ProcessWorkers(1, preload=("cluster.tools.background",)) as workers:
        [slept, fine] = workers.map(time.sleep, [(600,), (0,)], seconds=0.5)
    assert isinstance(slept, TimedOut)
    assert slept.waited >= 0.0
    assert fine is None
