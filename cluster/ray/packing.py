"""Do these engines fit on these nodes? Bundles laid out on nodes, by search.

Pure: what is accepted comes with the layout that proves it. Amounts are counted as Ray counts them, in ten-thousandths,
and a fraction of a GPU is of one GPU: three times 0.4 needs two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cluster.ray.nodes import Node

UNIT = 10_000
"""Ray's books have four digits."""
TRIES = 2_000
"""How often the search may go back before it gives up; it hardly ever has to."""


@dataclass(frozen=True)
class Bundle:
    """What one rank takes, of one node."""

    cpus: float = 0.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Place:
    """What one replica takes: bundles that lie on one node where any node could hold them all."""

    bundles: tuple[Bundle, ...]
    labels: dict[str, str] = field(default_factory=dict[str, str])
    gpu_memory: float = 0.0
    held: int | None = None
    """So many of the bundles, the first ones, are reserved; the engine takes the others itself. None: all."""

    def allows(self, node: Node) -> bool:
        """Whether its bundles may lie on this node, were there room."""
        return node.satisfies(self.labels) and (not self.gpu_memory or (node.gpu_memory or 0.0) >= self.gpu_memory)

    def fits(self, node: Node) -> bool:
        """Whether an empty node of this kind holds it whole."""
        return self.allows(node) and _Room(node).put_all(self.bundles) is not None


@dataclass(frozen=True)
class Spot:
    """Where a bundle lies: the node (a position in the list), and which of its GPUs."""

    node: int
    gpus: tuple[int, ...] = ()


Layout = list[tuple[Spot, ...]]
"""For each place, a spot for each of its bundles."""


def pack(nodes: Sequence[Node], places: Sequence[Place]) -> Layout | None:
    """Return a layout of all places side by side, or None where none was found.

    A place that few nodes may hold goes first, then the large ones; each to where it leaves least. Where one doesn't
    fit, the last decision is changed.
    """
    search = _Search(nodes, places)
    order = sorted(range(len(places)), key=search.urgency)
    found: dict[int, tuple[Spot, ...]] = {}
    trail: list[Iterator[tuple[Spot, ...]]] = []
    tries = 0
    while len(found) < len(order):
        if len(trail) == len(found):
            trail.append(search.choices(order[len(found)]))
        spots = next(trail[-1], None)
        if spots is not None:
            found[order[len(found)]] = spots
            continue
        trail.pop()
        tries += 1
        if not trail or tries > TRIES:
            return None
        last = order[len(found) - 1]
        search.undo(last, found.pop(last))
    return [found[at] for at in range(len(places))]


class _Room:
    """What is free on a node while it is filled."""

    def __init__(self, node: Node) -> None:
        self.cpus = round(node.cpus * UNIT)
        self.gpus = [UNIT] * int(node.gpus)

    def put(self, bundle: Bundle) -> tuple[int, ...] | None:
        """Take what a bundle needs; return which GPUs."""
        cpus, gpus = round(bundle.cpus * UNIT), round(bundle.gpus * UNIT)
        if cpus > self.cpus:
            return None
        each, count = min(gpus, UNIT), -(-gpus // UNIT)
        able = [at for at, free in enumerate(self.gpus) if free >= each]
        if len(able) < count:
            return None
        chosen = tuple(sorted(able, key=self.gpus.__getitem__)[:count])  # the fullest that have room
        self.cpus -= cpus
        for at in chosen:
            self.gpus[at] -= each
        return chosen

    def take_back(self, bundle: Bundle, chosen: tuple[int, ...]) -> None:
        self.cpus += round(bundle.cpus * UNIT)
        for at in chosen:
            self.gpus[at] += min(UNIT, round(bundle.gpus * UNIT))

    def put_all(self, bundles: Sequence[Bundle]) -> list[tuple[int, ...]] | None:
        """Put all or nothing."""
        done: list[tuple[int, ...]] = []
        for bundle in bundles:
            chosen = self.put(bundle)
            if chosen is None:
                for earlier, gpus in zip(bundles, done, strict=False):
                    self.take_back(earlier, gpus)
                return None
            done.append(chosen)
        return done


class _Search:
    """The nodes being filled, and for each place the ways that are left."""

    def __init__(self, nodes: Sequence[Node], places: Sequence[Place]) -> None:
        self.places = places
        self.rooms = [_Room(node) for node in nodes]
        known: dict[tuple[object, ...], tuple[list[int], bool]] = {}
        self.allowed: list[list[int]] = []
        self.together: list[bool] = []
        self.users: list[set[object]] = [set() for _ in nodes]
        """The sorts of places that may use each node."""
        for place in places:
            sort = (place.bundles, tuple(sorted(place.labels.items())), place.gpu_memory)
            if sort not in known:
                allowed = [at for at, node in enumerate(nodes) if place.allows(node)]
                known[sort] = allowed, any(place.fits(nodes[at]) for at in allowed)
                for at in allowed:
                    self.users[at].add(sort)
            self.allowed.append(known[sort][0])
            self.together.append(known[sort][1])

    def urgency(self, at: int) -> tuple[float, ...]:
        bundles = self.places[at].bundles
        gpus, cpus = sum(bundle.gpus for bundle in bundles), sum(bundle.cpus for bundle in bundles)
        return len(self.allowed[at]), -gpus, -cpus

    def choices(self, at: int) -> Iterator[tuple[Spot, ...]]:
        """Yield the ways to lay a place out, each done already; undo it before the next."""
        yield from self._on_one(at) if self.together[at] else self._over_several(at)

    def undo(self, at: int, spots: tuple[Spot, ...]) -> None:
        for bundle, spot in zip(self.places[at].bundles, spots, strict=True):
            self.rooms[spot.node].take_back(bundle, spot.gpus)

    def _free(self, node: int) -> tuple[int, int]:
        return sum(self.rooms[node].gpus), self.rooms[node].cpus

    def _on_one(self, at: int) -> Iterator[tuple[Spot, ...]]:
        seen: set[object] = set()
        for node in sorted(self.allowed[at], key=lambda node: (len(self.users[node]), *self._free(node))):
            room = self.rooms[node]
            state = (frozenset(self.users[node]), room.cpus, tuple(sorted(room.gpus)))
            if state in seen:  # it would be the same as on the one before
                continue
            seen.add(state)
            done = room.put_all(self.places[at].bundles)
            if done is not None:
                yield tuple(Spot(node, gpus) for gpus in done)

    def _over_several(self, at: int) -> Iterator[tuple[Spot, ...]]:
        """On few nodes, the emptiest first; or else on those that are nearly full."""
        for emptiest_first in (True, False):
            left, spots = list(self.places[at].bundles), list[Spot]()
            for node in sorted(self.allowed[at], key=self._free, reverse=emptiest_first):
                while left and (gpus := self.rooms[node].put(left[0])) is not None:
                    spots.append(Spot(node, gpus))
                    left.pop(0)
            if not left:
                yield tuple(spots)
                continue
            for bundle, spot in zip(self.places[at].bundles, spots, strict=False):
                self.rooms[spot.node].take_back(bundle, spot.gpus)
