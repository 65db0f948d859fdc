"""Placement of engines on a Ray cluster: one placement group for each replica, or for the engines that take turns.

``Placement.plan`` hears of all engines before anything starts, sees that they fit (``packing``), and keeps the layout;
``take`` then makes a replica's group, or joins the one that is there, and gives the options of its actor. The layout
is a hint to Ray (the node that a group should rather lie on), so that small engines that start first don't break up the
node that a large one needs; where others use that node, Ray takes another.

A group is gone with its last replica, and everything that vLLM started in it ends with it. A group whose GPUs are used
by others waits for them. One that has waited a minute, and that the living nodes can't hold any more, fails its
replicas.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.ray.nodes import GPU_MEMORY, ID_LABEL, TYPE_LABEL, Node, live_nodes
from cluster.ray.packing import Layout, Place, pack
from cluster.ray.refusal import MAY_JOIN, TASKS, cannot_hold, needs, why_not
from cluster.ray.seats import Seat, Seating, data_parallel
from schemas.engine import EngineSpec
from schemas.errors import BadInput, EngineFailed, WorkerLost

PATIENCE = 60.0
"""Seconds until it is asked whether a group that waits can ever be had."""


@dataclass(eq=False)
class Hold:
    """One replica's hold on its group."""

    placement: Placement
    stage: str
    seat: Seat
    group: _Group
    options: dict[str, Any]
    """Of the actor: ``ray.remote(cls).options(**hold.options)``."""
    fail: Callable[[Exception], None] = lambda error: None
    """Called, in another thread, when the group can't be had any more."""

    @property
    def placed(self) -> bool:
        """Whether the group has got its nodes."""
        return placement_group_table(self.group.handle).get("state") == "CREATED"

    def wanted(self) -> str:
        """Return what the group waits for, and how much of it is free now."""
        free = ray.available_resources()
        return (
            f"room in the cluster: {needs(self.group.place)}; free now: {free.get('GPU', 0):g} GPU(s), "
            f"{free.get('CPU', 0):g} CPU(s)"
        )

    def release(self) -> None:
        """Give the seat back, and with the last one the group; once is enough."""
        self.placement.release(self)


@dataclass(eq=False)
class _Group:
    """A placement group and who is in it."""

    place: Place
    handle: PlacementGroup
    pinned: frozenset[str] | None
    """The nodes that it was restricted to, by their ids."""
    holds: list[Hold] = field(default_factory=list[Hold])
    waits_since: float = field(default_factory=time.monotonic)


class Placement:
    """All groups of a runner.

    Args:
        patience: see ``PATIENCE``.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._seating = Seating()
        self._targets: dict[int, str] = {}
        """Place -> the node that the plan has for it."""
        self._groups: dict[int, _Group] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def plan(self, specs: Sequence[EngineSpec]) -> None:
        """Lay all engines of a pipeline out; those that take turns find each other here.

        Raises:
            BadInput: they don't fit, with what there is and what to change.
        """
        seating = Seating()
        seating.add(specs)
        nodes = live_nodes()
        layout = pack(nodes, [*seating.places, TASKS])
        if layout is None and not nodes_may_join():
            raise BadInput(why_not(nodes, specs))
        with self._lock:
            self._clear()  # an earlier pipeline's
            self._seating, self._targets = seating, _targets(nodes, layout or [])

    def take(self, spec: EngineSpec, stage: str, number: int) -> Hold:
        """Return a hold on the group of this replica; the group may still be waiting for its nodes."""
        with self._lock:
            seat = self._seating.seat(spec, number)
            group = self._groups.get(seat.place)
            if group is None:
                group = self._groups[seat.place] = self._make(seat.place, f"{stage}-{number}")
            hold = Hold(self, stage, seat, group, _options(seat, group))
            seat.taken = True
            group.holds.append(hold)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="gristmill-placement", daemon=True)
                self._watcher.start()
        return hold

    def release(self, hold: Hold) -> None:
        """See ``Hold.release``."""
        with self._lock:
            if hold not in hold.group.holds:
                return
            hold.group.holds.remove(hold)
            hold.seat.taken = False
            if not hold.group.holds:
                self._groups = {place: group for place, group in self._groups.items() if group is not hold.group}
                remove_placement_group(hold.group.handle)

    def close(self) -> None:
        """Remove all groups; the cluster is still connected."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join(timeout=10)
        with self._lock:
            self._clear()

    def abandon(self) -> None:
        """Ask no more after any group: the cluster is gone, and who asks Ray then is given another one."""
        self._closed.set()

    def _clear(self) -> None:
        for group in self._groups.values():
            group.holds.clear()
            remove_placement_group(group.handle)
        self._groups = {}

    def _make(self, at: int, name: str) -> _Group:
        place, nodes = self._seating.places[at], live_nodes()
        bundles = place.bundles[: place.held]
        whole = any(place.fits(node) for node in nodes)
        selector, pinned = _selector(place, nodes)
        handle = placement_group(
            [_resources(bundle.cpus, bundle.gpus) for bundle in bundles],
            strategy="STRICT_PACK" if whole else "PACK",
            name=f"gristmill-{name}-{uuid.uuid4().hex[:8]}",
            bundle_label_selector=[selector] * len(bundles),
            _soft_target_node_id=self._targets.get(at) if whole else None,
        )
        return _Group(place, handle, pinned)

    def _watch(self) -> None:
        """See to groups that wait for what no longer exists."""
        while not self._closed.wait(min(5.0, self._patience / 4)):
            with self._lock:
                groups = list(self._groups.values())
            for group in groups:
                if self._closed.is_set():
                    return
                try:
                    self._look_after(group)
                except Exception:  # the cluster doesn't answer just now, or is gone: whoever uses it finds out
                    break

    def _look_after(self, group: _Group) -> None:
        if placement_group_table(group.handle).get("state") == "CREATED":
            group.waits_since = time.monotonic()
        if time.monotonic() - group.waits_since < self._patience or nodes_may_join():
            return
        nodes = live_nodes()
        for hold in list(group.holds):
            where = f"stage {hold.stage}: replica {hold.seat.number}"
            if pack(nodes, [group.place]) is None:
                lack = cannot_hold(nodes, group.place)
                hold.fail(EngineFailed(f"{where} can't be placed any more, nodes were lost: {lack}"))
            elif group.pinned is not None and not (_selector(group.place, nodes)[1] or frozenset()) <= group.pinned:
                hold.fail(WorkerLost(f"{where} waited for nodes, and now there are others"))  # it is placed anew


def nodes_may_join() -> bool:
    """Whether the user says that the cluster adds nodes when they are asked for."""
    return os.environ.get(MAY_JOIN, "0") not in ("", "0")


def _targets(nodes: Sequence[Node], layout: Layout) -> dict[int, str]:
    return {place: nodes[spots[0].node].id for place, spots in enumerate(layout) if spots}


def _selector(place: Place, nodes: Sequence[Node]) -> tuple[dict[str, str], frozenset[str] | None]:
    """Return the label selector of a place's bundles, and the nodes that it names one by one, if it does.

    Ray can't select by GPU memory, or by what the engine will take beside the group; that is said by naming the nodes,
    or, where others may join, the accelerators that are large enough.
    """
    by_itself = place.held is not None
    if not place.gpu_memory and not by_itself:
        return place.labels, None
    if nodes_may_join():
        types = sorted(name for name, size in GPU_MEMORY.items() if size >= place.gpu_memory)
        return {TYPE_LABEL: f"in({','.join(types or ['none'])})", **place.labels}, None
    whole = any(place.fits(node) for node in nodes)
    chosen = [node for node in nodes if place.allows(node) and (not by_itself or not whole or place.fits(node))]
    ids = frozenset(node.id for node in chosen)
    return {**place.labels, ID_LABEL: f"in({','.join(sorted(ids) or ['none'])})"}, ids


def _options(seat: Seat, group: _Group) -> dict[str, Any]:
    """Return the options of a replica's actor.

    An engine of one rank takes its bundle's GPUs itself. The ranks of a larger one are workers of vLLM's, which takes
    the bundles of the group that its own actor is in: all of them, or those it is told by its environment.
    """
    spec, environment = seat.spec, dict[str, str]()
    if spec.ranks > 1:
        if seat.rank_gpus not in (0, 1):
            environment["VLLM_RAY_PER_WORKER_GPUS"] = f"{seat.rank_gpus:g}"
        if len(group.place.bundles) > spec.ranks:
            environment["VLLM_RAY_BUNDLE_INDICES"] = ",".join(map(str, range(seat.first, seat.first + spec.ranks)))
    if data_parallel(spec) > 1 and (spec.labels or spec.gpu_memory):
        names = {node.name for node in live_nodes() if group.place.allows(node)}
        environment["VLLM_RAY_DP_PLACEMENT_NODE_IPS"] = ",".join(sorted(names))
    own_gpus = spec.ranks == 1 and data_parallel(spec) == 1
    return {
        "num_cpus": seat.worker_cpus,
        "num_gpus": seat.rank_gpus if own_gpus else 0,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            group.handle, placement_group_bundle_index=seat.first, placement_group_capture_child_tasks=True
        ),
        **({"runtime_env": {"env_vars": environment}} if environment else {}),
    }


def _resources(cpus: float, gpus: float) -> dict[str, float]:
    return {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
