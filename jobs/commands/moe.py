"""The commands ``gristmill moe ...`` and ``gristmill layout``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.config.options import JsonOption, console, examples

ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME|CONFIG", help="A published model, or its config.json.")
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", metavar="FILE.yaml", help="A file that describes the cluster in numbers.")
]

app = typer.Typer()
moe = typer.Typer(help="Place the experts of a mixture-of-experts model on GPUs.", no_args_is_help=True)


@moe.command(
    epilog="Examples:\n\n$ gristmill moe place --trace routing.npz --nodes 2 --gpus 16 --slots 96 --out plan.json\n\n"
    "$ gristmill moe place --counts counts.npy --nodes 8 --gpus 64 --slots 320 --groups 8 --out plan.json"
)
def place(
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes.")],
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs, on all nodes together.")],
    slots: Annotated[int, typer.Option(min=1, help="Slots for the experts of one layer, on all GPUs together.")],
    out: Annotated[str, typer.Option(metavar="PLAN.json", help="Where the plan is written.")],
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.npz[:ARRAY,...]", help="Recorded routing: expert ids [tokens, layers, top-k], NAME_len."
        ),
    ] = None,
    counts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Or counts: .npy, .npz, .json [layers, experts]; expert_counts.")
    ] = None,
    objective: Annotated[
        Literal["throughput", "balance", "traffic"], typer.Option(help="What to optimise.")
    ] = "throughput",
    weights: Annotated[
        bool | None,
        typer.Option(
            "--weights/--no-weights",
            help="Give replicas different shares by node, for engines that support it (the default for traffic).",
        ),
    ] = None,
    groups: Annotated[
        int | None, typer.Option(min=1, help="Groups of experts (by default those of the model).")
    ] = None,
    experts: Annotated[
        int | None, typer.Option(min=1, help="How many experts, if the highest ids never occur.")
    ] = None,
    risk: Annotated[
        Literal["mean", "max", "cvar"],
        typer.Option(help="How to combine several arrays: their mean, the worst, or the worse half."),
    ] = "mean",
    running: Annotated[
        str | None, typer.Option(metavar="PLAN.json", help="The plan in use, which is kept unless a new one gains 3%.")
    ] = None,
    model: ModelOption = None,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan which experts each GPU holds, from recorded routing."""
    from cluster.moe.placement import Shape
    from jobs.moe.plans import plan_placement

    made, kept = plan_placement(
        trace,
        counts,
        Shape(nodes, gpus, slots),
        objective,
        groups=groups,
        experts=experts,
        model=model,
        cluster=cluster,
        weights=weights,
        risk=risk,
        running=running,
        console=console(stderr=True),
    )
    made.write(out)
    chosen = list(made.about.get("chosen", ()))
    document: dict[str, Any] = {
        "plan": out,
        "layers": len(made.physical_to_logical),
        "experts": made.experts,
        "weights": made.weights is not None,
        "kept_running": kept,
        "chosen": {name: chosen.count(name) for name in sorted(set(chosen))},
    }
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    told = ", ".join(f"{name} {number}" for name, number in document["chosen"].items())
    typer.echo(f"{out}: {document['layers']} layers of {made.experts} experts in {slots} slots on {gpus} GPUs")
    typer.echo("the running plan is kept: a new one gains less than 3%" if kept else f"candidates chosen: {told}")


@moe.command(epilog="Example:\n\n$ gristmill moe evaluate plan.json --trace routing.npz")
def evaluate(
    plan: Annotated[str, typer.Argument(metavar="PLAN.json")],
    trace: Annotated[str, typer.Option(metavar="FILE.npz[:ARRAY,...]", help="Recorded routing to measure it on.")],
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Plot the loads by layer and GPU (.html, .png, .svg).")
    ] = None,
    model: ModelOption = None,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a plan on recorded routing: balance, steps, nodes, modelled time, beside the engines' own policies."""
    from jobs.moe.plans import evaluate as measured
    from jobs.moe.plans import print_evaluation

    document = measured(plan, trace, model, cluster, plot)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_evaluation(console(), document)


@moe.command(epilog="Example:\n\n$ gristmill moe export plan.json --to vllm")
def export(
    plan: Annotated[str, typer.Argument(metavar="PLAN.json")],
    to: Annotated[Literal["vllm", "sglang", "trtllm", "ascend"], typer.Option(help="The engine that will read it.")],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the file is written; by default beside the plan.")
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a plan as an engine reads it, and print the flags to start the engine with."""
    from cluster.moe.emit import SUFFIX, emit
    from cluster.moe.models import read_model
    from cluster.moe.placement import read_placement

    placement = read_placement(plan)
    name = model or placement.model
    known = read_model(name) if name else None
    first = 0 if known is None else known.layers - known.moe_layers
    path = out or f"{Path(plan).with_suffix('')}.{to}{SUFFIX[to]}"
    start = emit(placement, to, path, first)
    if as_json:
        typer.echo(json.dumps({"file": path, "start": start, "first_layer": first}, indent=2))
        return
    typer.echo(f"{path}; start {to} with:")
    for line in start:
        typer.echo(f"  {line}")
    if known is None and to in ("sglang", "trtllm"):
        typer.echo("Layers are numbered from 0; where the model begins with layers without experts, give --model.")
    if placement.weights is not None:
        typer.echo(f"The plan's weights aren't in it: {to} gives every replica the same share.")


@app.command(epilog=examples("gristmill layout DeepSeek-V3 --cluster cluster.yaml"))
def layout(
    model: Annotated[str, typer.Argument(metavar="MODEL_CONFIG", help="A published model, or its config.json.")],
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster", metavar="CLUSTER.yaml|ray[:ADDRESS]", help="The cluster in numbers, or the live one of Ray."
        ),
    ],
    gpu: Annotated[str | None, typer.Option(help="The GPUs of a live cluster, if its nodes don't say: H100.")] = None,
    price: Annotated[float, typer.Option(min=0.0, help="Dollars per GPU hour of a live cluster.")] = 0.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight per data-parallel rank.")] = 64,
    context: Annotated[int, typer.Option(min=1, help="Tokens of a request, prompt and completion together.")] = 8192,
    limit: Annotated[int, typer.Option(min=1, help="How many layouts to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Rank the ways to serve a mixture of experts on a cluster, and say why others don't fit."""
    from cluster.moe.layout import layouts
    from cluster.moe.models import read_model
    from cluster.moe.topology import read_cluster
    from jobs.moe.layouts import document_of, print_layouts

    known = read_model(model)
    if cluster == "ray" or cluster.startswith("ray:"):
        from cluster.ray.topology import cluster_at

        figures = {"price_per_gpu_hour": price} | ({} if gpu is None else {"gpu": gpu})
        machines = cluster_at(cluster.removeprefix("ray").removeprefix(":") or "auto", **figures)
    else:
        machines = read_cluster(cluster)
    found = layouts(known, machines, concurrency, context)
    if as_json:
        typer.echo(json.dumps(document_of(known, machines, found), indent=2))
    else:
        print_layouts(console(), known, machines, found, limit)
    if not found.fitting:
        raise typer.Exit(1)
