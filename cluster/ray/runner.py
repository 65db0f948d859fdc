"""The Ray runner: tasks as Ray tasks, engine workers as Ray actors, on one machine or a cluster.

Ray starts by itself on this machine, or an existing cluster is joined by its address. It is started by the first piece
of work or engine, so a run that reuses everything doesn't pay for it. Where engines go: ``cluster.ray.placement``.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import ray

from cluster.ray.metrics import RunMetrics
from cluster.ray.placement import Placement
from cluster.ray.private import keep_token_private, on_loopback, private_folder
from cluster.ray.refusal import TASKS
from cluster.ray.seats import Seating
from cluster.ray.watched import Watched
from cluster.ray.worker import RayWorker, plain
from cluster.runners.interruption import SIGNALS
from cluster.runners.runner import EngineJob, Runner, W
from cluster.tools.cores import give_way, take_share
from cluster.working.work import Done, Task, Work
from schemas.engine import EngineSpec
from schemas.errors import BadInput, ClusterLost
from schemas.installation import check_installation
from schemas.manifest import RunManifest

LOCAL_CPUS = max(2, os.cpu_count() or 1)
"""What Ray is told of this machine: an engine and the tasks need a place each (more engines get more)."""


class RayRunner(Runner):
    """Runs a pipeline on Ray.

    Args:
        address: a cluster to join (``auto``, ``host:port`` or ``ray://...``); None starts Ray on this machine.
        environment: variables that are set in all workers.
    """

    name = "ray"

    def __init__(self, address: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.address = address
        self.environment = dict(environment or {})
        self._ours = False
        self._watched = Watched()
        self._placement = Placement()
        self._workers: list[RayWorker] = []
        self._references: dict[Future[Done], Any] = {}
        self._metrics: RunMetrics | None = None

    @property
    def slots(self) -> int:
        if not ray.is_initialized():  # asking doesn't start it: a run that reuses everything never needs to
            return LOCAL_CPUS
        return max(1, int(self._watched.answer(ray.cluster_resources).get("CPU", 1)))

    def _start(self, cpus: int = LOCAL_CPUS) -> None:
        """Start or join Ray, unless that is done; ``cpus`` is what it is told of this machine."""
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about future defaults
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # a submitted job's variables, and ours
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would put engines behind everything else
        local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": private_folder()}
        keep_token_private()
        logging.getLogger("ray").setLevel(logging.ERROR)  # what it warns of isn't the user's to mend
        python_path = os.pathsep.join(path for path in sys.path if path)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            with nullcontext() if self.address else on_loopback():
                ray.init(
                    address=self.address or "local",
                    namespace="gristmill",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                    runtime_env={"env_vars": {**self.environment, "PYTHONPATH": python_path}},
                    **({} if self.address else local),
                )
        except ConnectionError as error:
            raise BadInput(
                f"no Ray cluster answers at '{self.address}': {error}. Start one, or leave --address out"
            ) from error
        except Exception as error:  # Ray's own word for a start that takes too long has no class of its own
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            raise ClusterLost(
                f"Ray didn't start in time (is the machine busy with something else?): {error} Nothing that was "
                "committed is lost; the same command goes on"
            ) from error
        self._ours = True
        self._watched = Watched() if self.address else Watched.started_here()
        if threading.current_thread() is threading.main_thread():  # Ray puts its own in their place
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def submit(self, work: Work) -> Future[Done]:
        self._start()
        return self._tracked(self._watched.answer(lambda: _run.remote(work)))

    def submit_wide(self, task: Task) -> Future[Done]:
        from cluster.ray.data import run_wide  # Ray Data takes a second to import: only what outgrows a node pays

        self._start()
        return self._tracked(self._watched.answer(lambda: run_wide.remote(task)))

    def _tracked(self, reference: Any) -> Future[Done]:
        future = plain(reference)
        self._references[future] = reference
        future.add_done_callback(lambda done: self._references.pop(done, None))
        return future

    def cancel(self, future: Future[Done]) -> None:
        reference = self._references.get(future)
        if reference is not None and not self._watched.gone:
            ray.cancel(reference, force=True)

    def check(self, engines: Sequence[EngineSpec]) -> None:
        """See ``Runner.check``. Ray starts here, on this machine with room in its books for all these engines."""
        if not engines:
            return
        if self.address is None:
            seating = Seating()
            seating.add(engines)
            cpus = max(LOCAL_CPUS, math.ceil(seating.cpus + sum(bundle.cpus for bundle in TASKS.bundles)))
            if self._ours and ray.is_initialized() and ray.cluster_resources().get("CPU", 0) < cpus:
                self.close()  # it was started for a smaller pipeline, and nothing runs now
            self._start(cpus)
        self._start()
        self._watched.answer(lambda: self._placement.plan(engines))

    def engine_worker(self, job: EngineJob[W], number: int) -> RayWorker[W]:
        self._start()

        def make() -> RayWorker[W]:
            return RayWorker(job, self._placement.take(job.engine, job.stage, number), self._watched)

        worker = self._watched.answer(make)
        self._workers.append(worker)
        return worker

    def publish(self, manifest: RunManifest) -> None:
        if ray.is_initialized():
            self._metrics = self._metrics or RunMetrics()
            self._metrics.publish(manifest)

    def close(self) -> None:
        self._metrics = None
        if self._watched.gone:  # each word to it would be waited for, and end this process in the end
            self._placement.abandon()
            self._watched.end_all()
            self._workers, self._placement, self._ours, self._watched = [], Placement(), False, Watched()
            return
        for worker in self._workers:
            worker.kill()
        if ray.is_initialized():
            self._placement.close()
        self._workers, self._placement = [], Placement()
        if self._ours:
            ray.shutdown()
            self._ours = False


@ray.remote(num_cpus=1, max_retries=0)  # the driver tries again, and finds the rows that kill their worker
def _run(work: Work) -> Done:
    check_installation()
    take_share(1)
    give_way()
    return work.run()
