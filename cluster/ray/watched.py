"""The processes of a Ray that a run started: without one of them nothing goes on, and Ray takes a minute to say so.

When the global control store is gone, Ray ends the driver's process after a minute, in the middle of whatever it does;
so a run looks by itself, and ends in good order before.
"""

from __future__ import annotations

import atexit
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray._private.worker import global_worker

from schemas.errors import ClusterLost

Answer = TypeVar("Answer")
GONE = (
    "Ray's own process on this machine died, so nothing can be worked on any more. Nothing that was committed is lost; "
    "the same command goes on, and starts Ray anew where it started it"
)
NEEDED = ("gcs_server", "raylet")
LOOK_SECONDS = 0.5
"""Between two looks whether it is still there, while it is asked something."""
SECONDS = 10.0
"""How long Ray is given to let go of this process once it is gone."""


@dataclass
class Watched:
    """Some processes, by what Ray calls them; none of a cluster that somebody else started."""

    node: Any = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    @staticmethod
    def started_here() -> Watched:
        """Return those of the Ray that this process has just started."""
        node: Any = global_worker.node
        found = {name: node.all_processes[name][0].process for name in NEEDED if node.all_processes.get(name)}
        return Watched(node, found)

    @property
    def gone(self) -> list[str]:
        """The names of those that have ended."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def check(self) -> None:
        """See that all are there.

        Raises:
            ClusterLost: one isn't.
        """
        if gone := self.gone:
            raise ClusterLost(f"{GONE} ({', '.join(gone)} ended)")

    def answer(self, question: Callable[[], Answer]) -> Answer:
        """Return what Ray says to a question: not all of them return where it dies meanwhile.

        Raises:
            ClusterLost: it is gone.
        """
        if not self.processes:
            return question()
        self.check()
        answer: Future[Answer] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="gristmill-ray-question", daemon=True).start()
        while not wait([answer], timeout=LOOK_SECONDS).done:
            self.check()
        if answer.exception() is not None:
            self.check()
        return answer.result()

    def end_all(self) -> None:
        """End what is left of them, and let go of Ray in this process, which may take it longer than we wait."""
        self.node.kill_all_processes(check_alive=False, allow_graceful=False)
        ending = threading.Thread(target=ray.shutdown, name="gristmill-ray-shutdown", daemon=True)
        ending.start()
        ending.join(SECONDS)
        atexit.unregister(ray.shutdown)  # it would wait once more, until Ray ends this process
