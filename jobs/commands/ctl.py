"""Steering a run while it is in progress, wherever that is."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from jobs.config.options import DEFAULT_ROOT, JsonOption, RootOption, RunArgument, console, examples, print_json
from schemas.errors import BadInput

app = typer.Typer()


@app.command(
    epilog=examples(
        "gristmill ctl latest",
        "gristmill ctl latest pause --reason 'the server is needed elsewhere'",
        "gristmill ctl latest resume",
        "gristmill ctl latest set run.budget.tokens=2000000 concurrency=16",
        "gristmill ctl latest set policy.name=uniform --root s3://bucket/team",
        "gristmill ctl latest requeue problem-17",
    )
)
def ctl(
    name: RunArgument,
    action: Annotated[
        Literal["pause", "resume", "cancel", "set", "requeue"] | None,
        typer.Argument(help="What the run should do; without it, earlier orders are listed.", show_default=False),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE...|PROBLEM]",
            help="For set: run.budget.tokens (samples, dollars, gpu_hours, hours), policy, concurrency, priority; "
            "values are YAML, and null removes one. For requeue: a problem_id.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded in the events and the ledger.")] = "",
    by: Annotated[str, typer.Option(help="Who gives the order; by default this user at this machine.")] = "",
    seconds: Annotated[float, typer.Option("--timeout", min=1.0, help="How long to wait for the answer.")] = 60.0,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Pause, resume or cancel a run; change its budget, policy, concurrency or priority; have rows made again.

    Orders go through the root, so the run may be on any machine. It answers within seconds.
    """
    from cluster.records.orders import give, new_order
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.orders import order_values, print_orders

    place = Root.at(root)
    manifest = find_run(place, name)
    if action is None:
        if as_json:
            print_json([one.model_dump(mode="json") for one in manifest.orders])
        else:
            print_orders(console(), manifest)
        return
    given = values or []
    if action in ("pause", "resume", "cancel") and given:
        raise BadInput(f"{action} takes nothing else; got {' '.join(given)}")
    if action == "requeue" and len(given) != 1:
        raise BadInput("requeue takes one problem_id")
    settings = order_values(given) if action == "set" else {}
    problem = given[0] if action == "requeue" else ""
    answer = give(place, manifest.run_id, new_order(action, by, reason, settings, problem), seconds)
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        typer.echo(f"{manifest.run_id}: {answer.answer}")
