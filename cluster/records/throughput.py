"""Throughput entries under a root: which one is about an engine, reading it, writing it."""

from __future__ import annotations

from cluster.storage.root import Root
from schemas.engine import EngineSpec
from schemas.identity import digest
from schemas.throughput import ThroughputEntry

FOLDER = "engines"


def slots_of(spec: EngineSpec) -> int:
    """Return how many requests an engine works on at once."""
    return int(getattr(spec, "slots", getattr(spec, "concurrency", 1)))


def entry_key(spec: EngineSpec, model: str, revision: str) -> str:
    """Return the name of an engine's entry: the weights, and what of its specification changes its speed."""
    kind = str(getattr(spec, "kind", ""))
    return digest([kind, model, revision, slots_of(spec), spec.ranks, spec.gpus, spec.cpus])


def read_entry(root: Root, spec: EngineSpec, model: str, revision: str) -> ThroughputEntry | None:
    """Return what was measured of an engine, or None."""
    name = f"{entry_key(spec, model, revision)}.json"
    if not root.exists(FOLDER, name):
        return None
    return ThroughputEntry.model_validate_json(root.read_bytes(FOLDER, name))


def write_entry(root: Root, spec: EngineSpec, entry: ThroughputEntry) -> str:
    """Write an entry; return its address."""
    name = f"{entry_key(spec, entry.model, entry.revision)}.json"
    root.write_bytes(entry.model_dump_json(indent=2).encode(), FOLDER, name)
    return root.uri(FOLDER, name)
