"""Watching runs and reading samples: in a browser, or in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.config.options import DEFAULT_ROOT, NewRootOption, RootOption, RunArgument, complete_run, console, examples
from schemas.errors import BadInput, RunIncomplete

app = typer.Typer()


@app.command(
    epilog=examples(
        "gristmill view",
        "gristmill view latest --root s3://bucket/team",
        "gristmill view samples.parquet",
        "gristmill view latest --control",
        "gristmill view --bundle site latest   (a static site of some runs, or of all)",
        "gristmill view --port 8080 --no-browser   (then: ssh -L 8080:127.0.0.1:8080 there)",
    )
)
def view(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|PATH]",
            help="A run's id, the beginning of one, or 'latest' (several for --bundle); or a Parquet file, or a "
            "folder of them, without a root.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    root: NewRootOption = DEFAULT_ROOT,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any other than 127.0.0.1 lets other machines reach the page.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")] = 0,
    control: Annotated[
        bool, typer.Option("--control", help="Let the page pause, change and cancel runs, and annotate verdicts.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead, write the page and the runs as a static site for any web server.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Watch runs and read their samples in a browser. Only those who have the address get an answer, and without
    --control nothing can be changed."""
    from cluster.records.reader import find_run, find_runs
    from cluster.storage.root import Root
    from jobs.view.bundle.site import write_bundle
    from jobs.view.serve import serve
    from jobs.view.shown import Shown

    if bundle is not None:
        if control:
            raise BadInput("--control needs a server; a bundle has none")
        place = Root.at(root)
        runs = [manifest.run_id for manifest in find_runs(place, names)] if names else []
        write_bundle(place, runs, bundle.expanduser(), lambda line: typer.echo(line, err=True))
        typer.echo(f"bundle: {bundle}")
        return
    if names and len(names) > 1:
        raise BadInput("say one run or one path; several runs are for --bundle")
    name = names[0] if names else None
    table = Path(name).expanduser() if name is not None else None
    if table is not None and table.exists():
        if control:
            raise BadInput("--control steers the runs of a root; a bare table has no run")
        shown = Shown(None, table)
    else:
        place = Root.at(root)
        shown = Shown(place, run=None if name is None else find_run(place, name).run_id)
    serve(shown, host, port, browser, lambda line: typer.echo(line), control)


@app.command(epilog=examples("gristmill watch latest", "gristmill watch arithmetic-20260101 --root s3://bucket/team"))
def watch(name: RunArgument, root: RootOption = DEFAULT_ROOT) -> None:
    """Watch a run on any machine from its root: the display that `run` has, for a terminal over ssh."""
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.running.summary import print_run
    from jobs.view.terminal import watch as look_on

    place = Root.at(root)
    manifest = look_on(place, find_run(place, name), console(stderr=True))
    print_run(console(), place, manifest)
    if manifest.state not in ("done", "budget reached"):
        raise typer.Exit(RunIncomplete.exit_code)
