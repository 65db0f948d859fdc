"""Running things: pipelines, their plans, single operators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from jobs.config.options import (
    JsonOption,
    LimitOption,
    NewRootOption,
    SetOption,
    TargetArgument,
    UnsafeOption,
    begun,
    command_line,
    complete_operator,
    console,
    examples,
    print_json,
    wide_console,
)
from schemas.errors import BadInput, BudgetReached, GristmillError, RunIncomplete

app = typer.Typer()


@app.command(
    epilog=examples(
        "gristmill run arithmetic",
        "gristmill run math --set load.source=problems.jsonl --set sample.n=256",
        "gristmill run job.yaml --root s3://bucket/team --address auto",
        "gristmill run arithmetic --dry-run",
        "gristmill run math --view",
    )
)
def run(
    target: TargetArgument,
    settings: SetOption = None,
    root: NewRootOption = "",
    runner: Annotated[
        Literal["ray", "local"] | None, typer.Option(help="Where work is executed; by default on Ray.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to join; by default Ray is started here.")] = None,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the first prompt, and sample nothing.")
    ] = False,
    if_busy: Annotated[
        Literal["refuse", "wait", "read"] | None,
        typer.Option(help="If another run is writing the same samples: stop, wait for it, or use what is there."),
    ] = None,
    retry_errors: Annotated[
        bool,
        typer.Option(
            "--retry-errors",
            help="Draw refused samples again, and judge again where a verdict ended in a timeout or an error.",
        ),
    ] = False,
    view: Annotated[
        bool, typer.Option("--view", help="Serve the run's page (gristmill view) until the run ends.")
    ] = False,
    allow_unsafe_execution: UnsafeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline, or resume it. What exists already is never paid for twice."""
    begun(f"{target}: reading the settings and the problems")  # imports and plans take a while, and a cluster longer
    from jobs.running.run import execute, prepare, show_dry_run

    job = prepare(target, settings or [], root, runner, address, limit)
    if dry_run:
        show_dry_run(job, as_json, allow_unsafe_execution)
        return
    changed: dict[str, Any] = {"command": command_line(), **({"if_busy": if_busy} if if_busy else {})}
    if allow_unsafe_execution:
        changed["allow_unsafe_execution"] = True
    settings_of_run = job.execution.model_copy(update=changed)
    if view:
        from jobs.view.serve import beside

        with beside(job.root, lambda line: typer.echo(line, err=True)):
            state = execute(job, settings_of_run, as_json, retry_errors)
    else:
        state = execute(job, settings_of_run, as_json, retry_errors)
    if state == "budget reached":
        raise typer.Exit(BudgetReached.exit_code)
    if state != "done":
        raise typer.Exit(GristmillError.exit_code if state == "failed" else RunIncomplete.exit_code)


@app.command(
    epilog=examples(
        "gristmill plan arithmetic",
        "gristmill plan math --set load.source=p.jsonl --set sample.n=1000",
        "gristmill plan job.yaml --set run.budget.dollars=50 --set run.prices=prices.yaml --worth 2",
    )
)
def plan(
    target: TargetArgument,
    settings: SetOption = None,
    root: NewRootOption = "",
    limit: LimitOption = None,
    worth: Annotated[
        float | None,
        typer.Option(metavar="DOLLARS", help="What 1% of coverage is worth to you (in tokens if no price is known)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would reuse, top up or compute, what it would cost, and what to expect. Spends nothing."""
    begun(f"{target}: reading the settings and the problems")
    from jobs.running.run import prepare, show_plan

    show_plan(prepare(target, settings or [], root, "local", None, limit), as_json, worth)


class OpCommand(TyperCommand):
    """``gristmill op NAME --help`` explains the operator, ``gristmill op --help`` the options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["op"] = next(iter(args), "")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        name = ctx.meta["op"]
        if not name or name.startswith("-"):
            return super().format_help(ctx, formatter)
        from jobs.looking.describe import describe
        from jobs.looking.descriptions import print_description

        for one in describe(name if ":" in name else f"operator:{name}"):
            tables = " ".join(f"--in {dataset}=PATH" for dataset in one.inputs)
            typer.echo(f"Usage: gristmill op {name} {tables} --out PATH [--set SETTING=VALUE]...\n")
            print_description(wide_console(), one)
        typer.echo("gristmill op --help lists the other options.")
        return None


@app.command(
    cls=OpCommand,
    epilog=examples(
        "gristmill op verify.math --in samples=s.parquet --in problems=p.jsonl --out verdicts.parquet",
        "gristmill op measure.pass_at_k --in verdicts.parquet --out coverage.csv --set k=[1,10,100]",
        "gristmill op mypackage.ops:MyOperator --in rows.parquet --out result.parquet",
    ),
)
def op(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="verify.math, ... or package.module:Class", autocompletion=complete_operator
        ),
    ],
    inputs: Annotated[
        list[str] | None, typer.Option("--in", metavar="[INPUT=]PATH", help="A table to read, for this input.")
    ] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="PATH", help="Where the result is written (.parquet, .jsonl, .csv).")
    ] = "",
    next_labels: Annotated[
        int | None,
        typer.Option(
            "--next", min=1, metavar="N", help="For an audit: write the N samples whose labels would tell it most."
        ),
    ] = None,
    settings: SetOption = None,
    allow_unsafe_execution: UnsafeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one operator on plain Parquet, JSONL or CSV files, without a pipeline."""
    if not out:
        raise BadInput("give the place of the result: --out PATH")
    begun(f"{name}: reading {' and '.join(inputs or ['its source'])}")
    from jobs.config.settings import parse_assignments
    from jobs.looking.op import run_op, who_asks

    told = console(stderr=True)

    def tell(sentence: str) -> None:
        told.print(f"note: {sentence}", soft_wrap=True, highlight=False, markup=False)

    given = parse_assignments(settings or [])
    if next_labels is not None:
        name, given = who_asks(name), {**given, "next": next_labels}
    result = run_op(name, inputs or [], out, given, allow_unsafe_execution, tell)
    if as_json:
        print_json({"operator": name, "rows": len(result), "out": out})
    else:
        console().print(f"{name}: {len(result):,} rows in {out}", soft_wrap=True, highlight=False)


@app.command(
    name="check-golds",
    epilog=examples(
        "gristmill check-golds problems.jsonl",
        "gristmill check-golds questions.csv --verifier verify.exact --set answer_column=gold",
    ),
)
def check_golds(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or data set, as for load.source.")],
    verifier: Annotated[
        str | None,
        typer.Option(
            help="The verifier; by default the one for each problem's task.", autocompletion=complete_operator
        ),
    ] = None,
    settings: SetOption = None,
    most: Annotated[int, typer.Option(min=0, help="How many unreadable answers are shown at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the expected answers that no verifier can read, before anything is paid for."""
    begun(f"{source}: reading the problems")
    from jobs.config.settings import build_operator, parse_assignments
    from jobs.looking.golds import check_golds, document, print_golds
    from operators.load import Load

    given = parse_assignments(settings or [])
    load = build_operator({"operator": "load", **given.get("load", given), "source": source}, "load")
    assert isinstance(load, Load)
    golds, notes = check_golds(load, verifier)
    if as_json:
        print_json(document(golds, notes, most))
    else:
        print_golds(console(), golds, notes, verifier, most)
    unread = sum(gold.kind == "unread" for gold in golds)
    if unread and as_json:
        raise typer.Exit(BadInput.exit_code)  # the document says it
    if unread:
        raise BadInput(f"{unread:,} of {len(golds):,} golds of '{source}' can't be read")
