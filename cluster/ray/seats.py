"""Which replica sits where: engine specifications turned into places (one placement group each) and seats in them.

A replica has a place of its own: a bundle for each rank. Engines that take turns share places: the one with the most
ranks says how many bundles a place has, and the replicas of the others are dealt out over the places, side by side in
one where they have fewer ranks. In Ray's books each engine of a turn then takes an equal fraction of its bundles' GPUs,
so that all of them are alive at once; they never work at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.ray.nodes import check_selectors
from cluster.ray.packing import UNIT, Bundle, Place
from schemas.engine import EngineSpec, VllmSpec
from schemas.errors import BadInput

WORKER_CPUS = 1.0
"""What the worker itself takes where the engine's ranks are processes of their own: it prepares and reads requests."""
CONTROL_CPUS = 1.0
"""What vLLM reserves beside the ranks of each data-parallel group."""
LEAST = 0.001
"""A bundle must hold something."""


@dataclass(eq=False)
class Seat:
    """One replica's part of a place: ``spec.ranks`` bundles from ``first`` on."""

    spec: EngineSpec
    number: int
    place: int
    first: int = 0
    engines: int = 1
    """How many engines take turns there."""
    taken: bool = False

    @property
    def worker_cpus(self) -> float:
        return _share(WORKER_CPUS if self.spec.ranks > 1 else self.spec.cpus, self.engines)

    @property
    def rank_gpus(self) -> float:
        return _share(self.spec.gpus, self.engines)


@dataclass
class Seating:
    """All seats of a pipeline, and the places they are in."""

    places: list[Place] = field(default_factory=list[Place])
    seats: list[Seat] = field(default_factory=list[Seat])

    @property
    def cpus(self) -> float:
        """What all of it takes."""
        return sum(bundle.cpus for place in self.places for bundle in place.bundles)

    def add(self, specs: Sequence[EngineSpec]) -> None:
        """Give each of these engines its seats.

        Raises:
            BadInput: an engine asks for what can't be had anywhere.
        """
        turns: dict[str, list[EngineSpec]] = {}
        for spec in specs:
            _check(spec)
            if spec.takes_turns is not None:
                turns.setdefault(spec.takes_turns, []).append(spec)
            elif data_parallel(spec) > 1:
                self._add_data_parallel(spec)
            else:
                self._add_turn([spec])
        for members in turns.values():
            self._add_turn(members)

    def seat(self, spec: EngineSpec, number: int) -> Seat:
        """Return a free seat of this replica, a new one where none was planned."""
        for _ in range(2):
            for seat in self.seats:
                if not seat.taken and seat.number == number and seat.spec == spec:
                    return seat
            self.add([spec])
        raise AssertionError(f"replica {number} of {spec.replicas}")

    def _add_turn(self, members: Sequence[EngineSpec]) -> None:
        """Add the places that these engines use in turn (or the one engine alone)."""
        ranks = max(spec.ranks for spec in members)
        count = max(math.ceil(spec.replicas / (ranks // spec.ranks)) for spec in members)
        bundles: list[list[Bundle]] = [[] for _ in range(count)]
        for spec in members:
            for number in range(spec.replicas):
                row, at = divmod(number, count)
                self.seats.append(Seat(spec, number, len(self.places) + at, row * spec.ranks, len(members)))
                mine = rank_bundles(spec)
                there = bundles[at]
                there += [Bundle()] * (row * spec.ranks + spec.ranks - len(there))
                for rank, bundle in enumerate(mine, row * spec.ranks):
                    old = there[rank]
                    there[rank] = Bundle(max(old.cpus, bundle.cpus), max(old.gpus, bundle.gpus))
        labels = _merged(members)
        memory = max(spec.gpu_memory for spec in members)
        self.places += [Place(tuple(each), labels, memory) for each in bundles]

    def _add_data_parallel(self, spec: EngineSpec) -> None:
        """vLLM takes the GPUs of data-parallel groups itself, beginning with the worker's own node."""
        group = (*[Bundle(0.0, spec.gpus)] * spec.ranks, Bundle(CONTROL_CPUS))
        on_each_node = data_parallel_local(spec)
        worker = Bundle(max(spec.cpus, LEAST))
        for number in range(spec.replicas):
            self.seats.append(Seat(spec, number, len(self.places)))
            self.places.append(Place((worker, *group * on_each_node), spec.labels, spec.gpu_memory, held=1))
            for _ in range(data_parallel(spec) // on_each_node - 1):
                self.places.append(Place(group * on_each_node, spec.labels, spec.gpu_memory, held=0))


def rank_bundles(spec: EngineSpec) -> list[Bundle]:
    """Return the bundles of one replica; the worker is in the first."""
    extra = WORKER_CPUS if spec.ranks > 1 else 0.0
    first = Bundle(max(spec.cpus + extra, LEAST), spec.gpus)
    return [first, *[Bundle(max(spec.cpus, LEAST), spec.gpus)] * (spec.ranks - 1)]


def data_parallel(spec: EngineSpec) -> int:
    """Return how many data-parallel groups a replica has; vLLM places them."""
    return spec.data_parallel if isinstance(spec, VllmSpec) else 1


def data_parallel_local(spec: EngineSpec) -> int:
    """Return how many of them vLLM puts on each node: all on one, unless it is told."""
    assert isinstance(spec, VllmSpec)
    return int(spec.engine_kwargs.get("data_parallel_size_local") or spec.data_parallel)


def _check(spec: EngineSpec) -> None:
    check_selectors(spec.labels)
    if spec.gpus > 1 and spec.gpus != int(spec.gpus):
        raise BadInput(f"engine.gpus={spec.gpus:g}: above one, GPUs are whole")
    if spec.takes_turns is not None and spec.gpus > 1:
        raise BadInput(
            f"engine.gpus={spec.gpus:g}: an engine that takes turns has at most one GPU for each rank (for more, "
            "tensor_parallel)"
        )
    if spec.takes_turns is not None and data_parallel(spec) > 1:
        raise BadInput("an engine with data_parallel can't take turns: vLLM takes its GPUs itself. Use replicas")
    if data_parallel(spec) % (data_parallel_local(spec) if data_parallel(spec) > 1 else 1):
        raise BadInput("engine.data_parallel must be a multiple of data_parallel_size_local")


def _merged(members: Sequence[EngineSpec]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for spec in members:
        for key, selector in spec.labels.items():
            if labels.setdefault(key, selector) != selector:
                raise BadInput(
                    f"engines that take turns ('{spec.takes_turns}') are on the same nodes, so their labels can't "
                    f"differ: '{key}' is '{labels[key]}' and '{selector}'"
                )
    return labels


def _share(amount: float, engines: int) -> float:
    """Return an equal part that Ray's four digits never round up."""
    return amount if engines == 1 else math.floor(amount / engines * UNIT) / UNIT
