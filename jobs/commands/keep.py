"""Maintaining a root: checking every file, freeing what nothing refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.config.options import (
    DEFAULT_ROOT,
    JsonOption,
    NewRootOption,
    RootOption,
    RunArgument,
    begun,
    complete_pipeline,
    examples,
    print_json,
)

app = typer.Typer()


@app.command(
    name="verify-data",
    epilog=examples("gristmill verify-data latest", "gristmill verify-data arithmetic-20260101 --repair"),
)
def verify_data(
    name: RunArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged, so that the next run makes it again.")
    ] = False,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Check all files of a run, page by page and against each other. Exit code 1 if something is wrong."""
    begun(f"{name}: reading its files")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.verify_data import check_run

    place = Root.at(root)
    if not check_run(place, find_run(place, name), repair, as_json):
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "gristmill gc --dry-run",
        "gristmill gc --keep-runs 30 --keep-days 90 --pipeline math",
        "gristmill gc --samples 8ef76e42af7a5ff6f98d63b89f334672 --dry-run",
    )
)
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    older_than: Annotated[float, typer.Option(min=0.0, metavar="HOURS", help="Keep what is younger.")] = 24.0,
    keep_runs: Annotated[
        int | None, typer.Option(min=1, help="Retire all but the newest N runs: their logs, reports and results go.")
    ] = None,
    keep_days: Annotated[float | None, typer.Option(min=0.01, help="Retire runs that are older than this.")] = None,
    job: Annotated[
        str | None, typer.Option(metavar="JOB.yaml", help="Retire runs of this job by its own 'retention'.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Retire only runs of this pipeline.", autocompletion=complete_pipeline)
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Give up these paid samples, with their verdicts and scores (the name of a folder)."
        ),
    ] = None,
    root: NewRootOption = "",
    as_json: JsonOption = False,
) -> None:
    """Free what no kept run refers to. Paid samples, verdicts and scores stay, except those named with --samples."""
    begun("looking for files that no run refers to")
    from cluster.storage.root import Root
    from cluster.upkeep.garbage import collect
    from cluster.upkeep.retention import drop_samples
    from jobs.config.job_file import read_job
    from jobs.looking.keeping import runs_to_retire

    file = None if job is None else read_job(job)
    place = Root.at(root or (file.root if file and file.root else DEFAULT_ROOT))
    retired = runs_to_retire(place, file, keep_runs, keep_days, pipeline)
    dropped = {name: drop_samples(place, name, dry_run) for name in samples or []}
    found = collect(place, older_than, dry_run, retired)
    if as_json:
        kinds = {kind: {"files": found.count(kind), "bytes": found.size(kind)} for kind in found.files}
        paths = [path for files in found.files.values() for path in files]
        given_up = {name: {"bytes": sum(sizes.values()), "runs": runs} for name, (sizes, runs) in dropped.items()}
        print_json(
            {
                "dry_run": dry_run,
                "older_than": found.limit,
                **kinds,
                "paths": paths,
                "spared": found.spared,
                "retired": retired,
                "samples": given_up,
            }
        )
        return
    verb = "Would remove" if dry_run else "Removed"
    typer.echo(f"{verb} what is older than {found.limit:%Y-%m-%d %H:%M} UTC:")
    for kind in found.files:
        typer.echo(f"  {kind}: {found.count(kind):,} files, {found.size(kind):,} bytes")
    if retired:
        typer.echo(f"  {'would retire' if dry_run else 'retired'} {len(retired):,} run(s): {', '.join(retired[:5])}")
    for name, (sizes, runs) in dropped.items():
        typer.echo(f"  samples {name}: {sum(sizes.values()):,} bytes in {len(sizes)} stores, of {len(runs)} run(s)")
    for note in found.spared:
        typer.echo(f"  left alone: {note}")
