"""``gristmill moe``: plan where experts go, measure a plan on a trace, write it for an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cluster.moe.eplb import eplb, linear
from cluster.moe.measure import DEFAULT, Costs, Measured, measure, mixed, step_balancedness
from cluster.moe.models import costs_of, read_model
from cluster.moe.place import Objective, Risk, place, place_counts, worth_moving
from cluster.moe.placement import Placement, Shape, read_placement
from cluster.moe.routing import Trace, counts_of, read_counts, read_traces
from cluster.moe.topology import read_cluster
from jobs.moe.plot import save_evaluation
from schemas.errors import BadInput

STEPS = (512, 2048)
"""Tokens of a step."""


def plan_placement(
    trace: str | None,
    counts: str | None,
    shape: Shape,
    objective: Objective,
    *,
    groups: int | None,
    experts: int | None,
    model: str | None,
    cluster: str | None,
    weights: bool | None,
    risk: Risk,
    running: str | None,
    console: Console,
) -> tuple[Placement, bool]:
    """Return the plan, and whether it is the running one, kept since moving isn't worth it.

    Raises:
        BadInput: none or both of trace and counts, or something in them that can't be.
    """
    if (trace is None) == (counts is None):
        raise BadInput("give --trace FILE.npz, or --counts FILE, one of the two")
    known = None if model is None else read_model(model)
    if known is not None:
        experts, groups = experts or known.experts, groups or known.groups
    name = "" if known is None else known.name
    costs = _costs(model, cluster)
    if counts is not None:
        table = read_counts(counts)
        if experts is not None:
            if table.shape[1] > experts:
                raise BadInput(f"'{counts}' has {table.shape[1]} experts, --experts says {experts}")
            table = np.pad(table, ((0, 0), (0, experts - table.shape[1])))
        return place_counts(table, shape, groups=groups or 1, model=name, objective=objective), False
    assert trace is not None
    traces, experts = read_traces(trace, experts)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("layers", total=None)
        made = place(
            traces,
            experts,
            shape,
            objective,
            weights=weights,
            groups=groups or 1,
            costs=costs,
            risk=risk,
            model=name,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if running is not None:
        old = read_placement(running)
        if not worth_moving(old, made, _whole(traces), costs):
            return old, True
    return made, False


def evaluate(plan: str, trace: str, model: str | None, cluster: str | None, plot: str | None = None) -> dict[str, Any]:
    """Measure a plan and the engines' own policies on a trace.

    EPLB plans with the counts that the plan was made with, where it has them, else with the trace's own.

    Args:
        plot: where a plot by layer goes.

    Raises:
        BadInput: the plan and the trace don't fit together.
    """
    placement = read_placement(plan)
    traces, _ = read_traces(trace, placement.experts)
    routed = _whole(traces)
    layers = len(placement.physical_to_logical)
    if routed.shape[1] != layers:
        raise BadInput(f"'{trace}' has {routed.shape[1]} layers, '{plan}' {layers}")
    without = placement.counts is None or placement.counts.shape != (layers, placement.experts)
    counts = counts_of(routed, placement.experts) if without else placement.counts
    assert counts is not None
    shape, experts, costs = placement.shape, placement.experts, _costs(model, cluster)
    compared = {"plan": placement}
    if placement.weights is not None:
        compared["plan, uniform replicas"] = Placement(shape, experts, placement.physical_to_logical)
    compared["EPLB global"] = Placement(shape, experts, eplb(counts, 1, shape.gpus, shape.slots))
    groups = _groups(model, experts, shape.nodes)
    if groups:
        table = eplb(counts, shape.nodes, shape.gpus, shape.slots, groups)
        compared["EPLB hierarchical"] = Placement(shape, experts, table)
    compared["linear"] = Placement(shape, experts, linear(layers, experts, shape.slots))
    measured = {name: measure(routed, one) for name, one in compared.items()}
    if plot is not None:
        save_evaluation(Path(plot), measured, routed, placement)
    orders: dict[str, Any] = {}
    if len(traces) > 1:
        tables = [place_counts(counts_of(one.experts, experts), shape).physical_to_logical for one in traces]
        own_plans = [Placement(shape, experts, table) for table in tables]
        apart = [step_balancedness(one.experts, table, STEPS[0]) for one, table in zip(traces, own_plans, strict=True)]
        alternating = step_balancedness(mixed(traces), placement, STEPS[0])
        tokens = np.array([len(one.experts) for one in traces])
        # the fullest GPU decides how long a step takes, so times go with 1 / balancedness
        grouped = float(tokens.sum() / (tokens / np.array(apart)).sum())
        orders = {
            "alternating": alternating,
            "grouped": grouped,
            "faster": "run.order=alternate, one plan" if alternating >= grouped else "run.order=grouped, a plan each",
            "each_class_alone": {one.name: step_balancedness(one.experts, placement, STEPS[0]) for one in traces},
            "each_class_with_its_own_plan": {one.name: even for one, even in zip(traces, apart, strict=True)},
        }
    return {
        "plan": plan,
        "trace": trace,
        "tokens": len(routed),
        "layers": layers,
        "hierarchical_groups": groups,
        "eplb_planned_with": "the trace's own counts" if without else "the counts the plan was made with",
        f"step_balancedness_{STEPS[0]}_by_order": orders,
        "policies": {name: _figures(routed, one, measured[name], costs) for name, one in compared.items()},
    }


def _figures(
    routed: np.ndarray[Any, Any], placement: Placement, found: Sequence[Measured], costs: Costs
) -> dict[str, Any]:
    even = [one.balancedness for one in found]
    return {
        "balancedness": float(np.mean(even)),
        "worst_layer": int(np.argmin(even)),
        "worst_layer_balancedness": float(np.min(even)),
        "remote_nodes_per_token_layer": float(np.mean([one.remote for one in found])),
        "modelled_microseconds_per_token": 1e6 * sum(one.seconds(costs) for one in found),
        **{f"step_balancedness_{step}": step_balancedness(routed, placement, step) for step in STEPS},
    }


def print_evaluation(console: Console, document: dict[str, Any]) -> None:
    """Print the figures side by side."""
    table = Table(title=f"{document['tokens']:,} tokens, {document['layers']} layers", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in document["policies"]:
        table.add_column(name, justify="right")
    first = next(iter(document["policies"].values()))
    for figure in first:
        digits = 0 if figure == "worst_layer" else 4
        cells = [f"{found[figure]:.{digits}f}" for found in document["policies"].values()]
        table.add_row(figure.replace("_", " "), *cells)
    console.print(table)
    orders = document[f"step_balancedness_{STEPS[0]}_by_order"]
    if orders:
        alone, own = (", ".join(f"{name} {value:.3f}" for name, value in orders[key].items())
                      for key in ("each_class_alone", "each_class_with_its_own_plan"))  # fmt: skip
        console.print(
            f"Steps of {STEPS[0]} tokens: classes alternating {orders['alternating']:.3f}; one after the other"
        )
        console.print(f"{alone}; each with a plan of its own {own}, together {orders['grouped']:.3f}")
        console.print(f"Modelled to be faster: {orders['faster']}")
    console.print(f"EPLB planned with {document['eplb_planned_with']}.", style="dim")


def _groups(model: str | None, experts: int, nodes: int) -> int:
    """Return how many groups EPLB's hierarchical policy would take: the model's, or one a node; 0 where it can't."""
    groups = nodes if model is None else read_model(model).groups
    return groups if nodes > 1 and groups % nodes == 0 and experts % groups == 0 and groups > 1 else 0


def _costs(model: str | None, cluster: str | None) -> Costs:
    """Return what work and ways take: of the model on the cluster, where both are known."""
    if model is None and cluster is None:
        return DEFAULT
    if model is None or cluster is None:
        raise BadInput("--model and --cluster go together: both are needed to model the time")
    return costs_of(read_model(model), read_cluster(cluster))


def _whole(traces: Sequence[Trace]) -> np.ndarray[Any, Any]:
    return np.concatenate([trace.experts for trace in traces])
