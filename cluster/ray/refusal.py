"""What a user reads whose engines don't fit on the cluster: what is wanted, what there is, what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.ray.nodes import MEMORY_LABEL, Node
from cluster.ray.packing import Bundle, Place, pack
from cluster.ray.seats import Seating, data_parallel
from schemas.engine import EngineSpec, VllmSpec

MAY_JOIN = "GRISTMILL_NODES_MAY_JOIN"
"""Environment variable: 1 where the cluster adds nodes when they are asked for. Then nothing is refused, but waited
for: Ray doesn't say which nodes could come."""
TASKS = Place((Bundle(1.0),))
"""The run's own tasks need a CPU beside the engines."""


def why_not(nodes: Sequence[Node], specs: Sequence[EngineSpec]) -> str:
    """Return why these engines can't be laid out on these nodes, though they should be.

    ``specs`` didn't fit together; the first that doesn't fit alone is to blame, or else all of them.
    """
    for spec in specs:
        alone = Seating()
        alone.add([spec])
        if pack(nodes, alone.places) is None:
            return f"{_wanted(spec)}, {_lack(nodes, spec, alone.places)}; {_there_is(nodes)}. {_advice(spec)}"
    wanted = "; ".join(_wanted(spec) for spec in specs)
    return (
        f"the engines fit alone, but not together with a CPU for the run's own tasks: {wanted}; {_there_is(nodes)}. "
        f"Lower engine.replicas or engine.cpus, share GPUs (engine.gpus=0.5 side by side, engine.takes_turns), or add "
        f"nodes{_or_wait()}"
    )


def cannot_hold(nodes: Sequence[Node], place: Place) -> str:
    """Return what is missing for one place (its nodes were lost)."""
    return f"{needs(place)}, and {_there_is(nodes)}"


def needs(place: Place) -> str:
    """Return what one place takes."""
    gpus, cpus = _sum(place)
    memory = f" with {place.gpu_memory:g} GB" if place.gpu_memory else ""
    return f"it needs {gpus:g} GPU(s){memory} and {cpus:g} CPU(s){_on(place.labels)}"


def _wanted(spec: EngineSpec) -> str:
    """Return what an engine asks for: ``vllm 'model' wants 2 replicas of 8 x 1 GPU (80 GB) and 9 CPUs``."""
    name = f"engine {getattr(spec, 'kind', type(spec).__name__)} '{getattr(spec, 'model', '')}'"
    groups = data_parallel(spec)
    gpus = f"{groups * spec.ranks} x {spec.gpus:g} GPU" if groups * spec.ranks > 1 else f"{spec.gpus:g} GPU"
    memory = f" of at least {spec.gpu_memory:g} GB" if spec.gpu_memory else ""
    alone = Seating()
    alone.add([spec.model_copy(update={"replicas": 1, "takes_turns": None})])
    cpus = sum(_sum(place)[1] for place in alone.places)
    amount = f"{gpus}{memory} and {cpus:.4g} CPU" if spec.gpus else f"{cpus:.4g} CPU"
    count = "1 replica" if spec.replicas == 1 else f"{spec.replicas} replicas, each"
    turns = f" (in turn with '{spec.takes_turns}')" if spec.takes_turns else ""
    return f"{name} wants {count} with {amount}{_on(spec.labels)}{turns}"


def _lack(nodes: Sequence[Node], spec: EngineSpec, places: Sequence[Place]) -> str:
    chosen = [node for node in nodes if node.satisfies(spec.labels)]
    if not chosen:
        return "but no node has these labels"
    able = [node for node in chosen if not spec.gpu_memory or (node.gpu_memory or 0.0) >= spec.gpu_memory]
    unknown = [node.name for node in chosen if node.gpus and node.gpu_memory is None]
    if unknown and spec.gpu_memory:
        say = f"ray start --labels {MEMORY_LABEL}=GB"
        hint = f" (nobody says how large the GPUs of {_some(unknown)} are: say it with '{say}')"
    else:
        hint = ""
    if not able:
        return f"but no node has GPUs that large{hint}"
    each = len(places) // spec.replicas
    room = next(count for count in range(spec.replicas, -1, -1) if pack(nodes, places[: count * each]) is not None)
    without_cpus = [
        replace(place, bundles=tuple(Bundle(0.0, bundle.gpus) for bundle in place.bundles)) for place in places
    ]
    lack = "too few CPUs" if pack(nodes, without_cpus) is not None else "too few GPUs" if spec.gpus else "too few CPUs"
    more = " (a replica that one node could hold isn't spread over several)" if spec.ranks > 1 and room else ""
    return f"and there is room for {room}: {lack}{more}{hint}"


def _advice(spec: EngineSpec) -> str:
    ways = ["engine.replicas"] if spec.replicas > 1 else []
    if isinstance(spec, VllmSpec) and spec.gpus:
        ways += ["engine.tensor_parallel"] if spec.tensor_parallel > 1 else []
        ways += ["engine.pipeline_parallel"] if spec.pipeline_parallel > 1 else []
        ways += ["engine.data_parallel"] if spec.data_parallel > 1 else []
    elif spec.gpus:
        ways += ["engine.gpus"]
    ways += ["engine.gpu_memory"] if spec.gpu_memory else []
    ways += ["engine.cpus"] if spec.cpus else []
    labels = ", change engine.labels" if spec.labels else ""
    return f"Lower {' or '.join(ways) or 'what it asks for'}{labels}, or add nodes{_or_wait()}"


def _or_wait() -> str:
    return f" (where nodes join by themselves when they are asked for, set {MAY_JOIN}=1, and the run waits for them)"


def _there_is(nodes: Sequence[Node]) -> str:
    """Return the nodes, equal ones together."""
    kinds: dict[str, list[str]] = {}
    for node in nodes:
        kinds.setdefault(node.equipment, []).append(node.name)
    listed = [
        f"{_some(names)}: {equipment}" if len(names) == 1 else f"{len(names)} nodes ({_some(names)}), each {equipment}"
        for equipment, names in kinds.items()
    ]
    return f"there is {'; '.join(listed[:10]) or 'no node'}" + (
        f"; and {len(listed) - 10} other kinds" * (len(listed) > 10)
    )


def _some(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(names))
    return ", ".join(known[:3]) + (f", ... ({len(known)} in all)" if len(known) > 3 else "")


def _on(labels: dict[str, str]) -> str:
    return " on nodes with " + ", ".join(f"{key}={value}" for key, value in labels.items()) if labels else ""


def _sum(place: Place) -> tuple[float, float]:
    return sum(bundle.gpus for bundle in place.bundles), sum(bundle.cpus for bundle in place.bundles)
