"""A worker with an engine, as an asynchronous Ray actor that sits in its replica's placement group."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, ObjectLostError, OwnerDiedError, RayError, RayTaskError

from cluster.ray.placement import Hold
from cluster.ray.watched import GONE, Watched
from cluster.runners.runner import EngineJob, Method, P, R, W
from cluster.working.serving import Address
from schemas.errors import ClusterLost, NodeLost, WorkerLost

_NODE_DIED = "because its node has died"
"""So Ray says it of an actor."""


AT_ONCE = 1000
"""Calls that a worker takes at once. They are coroutines and cost nothing while they wait; the driver's must never wait
behind those of other workers, each of which is a list of calls to an engine."""


@dataclass(frozen=True)
class RayAddress:
    """See ``cluster.working.serving.Address``: it travels to other actors."""

    name: str
    actor: Any

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return await getattr(self.actor, method.__name__).remote(*args)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except RayError as error:
            raise _told(error) from error


class RayWorker(Generic[W]):
    """See ``cluster.runners.runner.WorkerHandle``."""

    def __init__(self, job: EngineJob[W], hold: Hold, watched: Watched) -> None:
        self._hold = hold
        self._watched = watched
        self._open: set[Future[Any]] = set()
        self._failure: Exception | None = None
        self._lives = False
        hold.fail = self._fail
        actor = ray.remote(job.worker).options(**hold.options, max_restarts=0, max_concurrency=AT_ONCE)
        self._actor: Any = actor.remote(job)
        self.address: Address = RayAddress(f"{hold.stage}/{uuid.uuid4().hex}", self._actor)

    def call_last(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        if self._failure is None and not self._lives and not self._hold.placed:
            self._failure = WorkerLost("it was still waiting for a place in the cluster")
        return self.call(method, *args, **kwargs)

    def call(self, method: Method[W, P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R]
        if self._failure is not None:
            future = Future()
            future.set_exception(self._failure)
            return future
        future = plain(getattr(self._actor, method.__name__).remote(*args, **kwargs))
        self._open.add(future)
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: Future[Any]) -> None:
        self._open.discard(future)
        self._lives = True

    def _fail(self, error: Exception) -> None:
        """Fail all calls: there will never be a place for the actor."""
        self._failure = error
        for future in list(self._open):
            settle(future, None, error)

    def waits_for(self) -> str:
        return "" if self._lives or self._hold.placed else self._hold.wanted()

    def kill(self) -> None:
        if ray.is_initialized() and not self._watched.gone:
            ray.kill(self._actor, no_restart=True)
            self._hold.release()


def plain(reference: Any) -> Future[Any]:
    """Return a future that fails with the worker's own exception, or with ``WorkerLost``."""
    outer: Future[Any] = Future()

    def copy(inner: Future[Any]) -> None:
        error = inner.exception()
        if error is None:
            settle(outer, inner.result(), None)
        elif isinstance(error, RayTaskError):
            settle(outer, None, error.cause if error.cause else error)
        elif isinstance(error, RayError):
            settle(outer, None, _told(error))
        else:
            settle(outer, None, error)

    reference.future().add_done_callback(copy)
    return outer


def _told(error: RayError) -> ClusterLost | WorkerLost:
    """Return what became of a worker: it died by itself, or its node did, or all that runs here."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, LocalRayletDiedError):
        return ClusterLost(f"{GONE} ({said})")
    if isinstance(error, NodeDiedError | OwnerDiedError | ObjectLostError) or _NODE_DIED in said:
        return NodeLost(said)
    return WorkerLost(said)


def settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    """Resolve a future unless that was done already."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass
