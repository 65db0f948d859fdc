"""The commands ``gristmill submit``, ``status``, ``logs``, ``cancel``, ``resume`` and ``gather``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from jobs.config.options import (
    DEFAULT_ROOT,
    JsonOption,
    NewRootOption,
    RootOption,
    SetOption,
    begun,
    complete_run,
    console,
    examples,
    print_json,
)

app = typer.Typer()

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The id of a run or a submission, the beginning of one, or 'latest'.",
        autocompletion=complete_run,
    ),
]


@app.command(
    epilog=examples(
        "gristmill submit job.yaml --to slurm",
        "gristmill submit job.yaml --to ray --root s3://bucket/team --set sample.n=1000",
        "gristmill submit job.yaml --to kuberay --dry-run",
    )
)
def submit(
    target: Annotated[str, typer.Argument(metavar="JOB.yaml", help="A job file, or a pipeline's name.")],
    to: Annotated[Literal["local", "ray", "slurm", "kuberay"], typer.Option("--to", help="The kind of cluster.")],
    settings: SetOption = None,
    root: NewRootOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be submitted, and submit nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a job to a cluster. `status`, `logs`, `cancel` and `resume` look after it."""
    from jobs.submit.places import backend
    from jobs.submit.submitting import make_submission
    from jobs.submit.submitting import submit as hand_over

    submission = make_submission(target, to, root, settings or [])
    if dry_run:
        text = backend(to).preview(submission)
        if as_json:
            print_json({"to": to, "submission": submission.id, "preview": text})
        else:
            typer.echo(text, nl=False)
        return
    submission = hand_over(submission)
    if as_json:
        print_json(submission.model_dump(mode="json"))
        return
    typer.echo(f"{submission.id} submitted ({to}: {_handle(submission.attempts[-1].handle)})")
    typer.echo(f"look after it: gristmill status {submission.id} --root {submission.root}")


@app.command(epilog=examples("gristmill status latest", "gristmill status arithmetic-20260101-013000-ab12 --json"))
def status(name: NameArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Show how a submission or a run is doing, and what it is waiting for."""
    from cluster.storage.root import Root
    from jobs.submit.submitting import status as look

    found = look(Root.at(root), name)
    if as_json:
        print_json(found)
        return
    told = console()
    where = f"  {found['to']}: {found['cluster']}" if found["to"] else ""
    told.print(f"[bold]{found['name']}[/]  {found['state']}{where}", highlight=False, soft_wrap=True)
    if found["waits_for"]:
        told.print(f"[yellow]waits for: {found['waits_for']}[/]", highlight=False, soft_wrap=True)
    for run in found["runs"]:
        told.print(f"  {run['run_id']}  {run['state']}", highlight=False)
        for stage in run["stages"]:
            done = stage["reused"] + stage["computed"]
            told.print(f"    {stage['name']:<14} {done:,}/{stage['planned']:,}", highlight=False)
        if run["error"]:
            told.print(f"    {run['error']}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog=examples("gristmill logs latest", "gristmill logs latest --follow"))
def logs(
    name: NameArgument,
    root: RootOption = DEFAULT_ROOT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until it has ended.")] = False,
) -> None:
    """Print the output of a submission so far, or the events of a run."""
    from cluster.storage.root import Root
    from jobs.submit import submitting

    place = Root.at(root)
    for text in submitting.follow(place, name) if follow else [submitting.logs(place, name)]:
        typer.echo(text, nl=False)


@app.command(epilog=examples("gristmill cancel latest"))
def cancel(name: NameArgument, root: RootOption = DEFAULT_ROOT) -> None:
    """End a submission or a run in good order. Nothing that was committed is lost."""
    from cluster.storage.root import Root
    from jobs.submit.submitting import cancel as end

    typer.echo(end(Root.at(root), name))


@app.command(epilog=examples("gristmill resume latest"))
def resume(name: NameArgument, root: RootOption = DEFAULT_ROOT) -> None:
    """Submit again, or print the command that continues a run. What exists already is never paid for twice."""
    from cluster.storage.root import Root
    from jobs.submit.submission import find
    from jobs.submit.submitting import resume as again

    place = Root.at(root)
    submission = again(place, name)
    if submission is not None:
        typer.echo(f"{submission.id} submitted again ({submission.to}: {_handle(submission.attempts[-1].handle)})")
        return
    _, runs = find(place, name)
    typer.echo(f"{runs[0].run_id} was started by hand. The same command goes on:\n  {runs[0].command}")


@app.command(epilog=examples("gristmill gather ./other-root s3://bucket/third --root ./gristmill-data"))
def gather(
    sources: Annotated[list[str], typer.Argument(metavar="ROOT...", help="The roots to copy from.")],
    root: NewRootOption = DEFAULT_ROOT,
    complete: Annotated[
        bool, typer.Option("--complete", help="End with exit code 3 if a root is empty or its run isn't done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy samples, verdicts, scores and runs of other roots into this one. What is there already stays as it is."""
    begun(f"{', '.join(sources)}: reading what is there")
    from cluster.storage.root import Root
    from cluster.upkeep.gather import gather as take

    found = take(Root.at(root), [Root.at(source) for source in sources], lambda text: typer.echo(text, err=True))
    if as_json:
        print_json({"rows": found.rows, "runs": found.runs, "missing": found.missing})
    else:
        rows = ", ".join(f"{count:,} {kind}" for kind, count in found.rows.items())
        typer.echo(f"{rows} and {found.runs:,} runs taken")
    for sentence in found.missing:
        typer.echo(f"missing: {sentence}", err=True)
    if complete and found.missing:
        raise typer.Exit(3)


def _handle(handle: dict[str, object]) -> str:
    return ", ".join(
        f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in handle.items()
        if key != "born"
    )
