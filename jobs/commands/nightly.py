"""The commands ``gristmill nightly ...``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.config.options import JsonOption, NewRootOption, console, examples, print_json, wide_console

if TYPE_CHECKING:
    from jobs.nightly.attempts import Attempt
    from jobs.nightly.nightly import Nightly

nightly = typer.Typer(help="Run a job every night, and catch up on missed or failed nights.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(metavar="JOB.yaml", help="A job file with a schedule.")]


@nightly.command(
    epilog=examples(
        "gristmill nightly run night.yaml", "gristmill nightly run night.yaml --forever --root s3://bucket/team"
    )
)
def run(
    path: JobArgument,
    root: NewRootOption = "",
    forever: Annotated[
        bool,
        typer.Option(
            "--forever",
            help="Keep running, and start each night at its time (otherwise let a timer call this command).",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the nights that are due, catch up on missed ones, and try failed ones again within their window."""
    from jobs.nightly.nightly import Busy

    schedule = _nightly(path, root, as_json)
    if forever:
        schedule.forever()
        return
    try:
        made = schedule.run()
    except Busy as busy:
        typer.echo(str(busy), err=True)
        made = []
    _end(made, as_json)


@nightly.command(epilog=examples("gristmill nightly backfill night.yaml --from 2026-11-01 --to 2026-11-07"))
def backfill(
    path: JobArgument,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="The first date.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The last date.")],
    root: NewRootOption = "",
    as_json: JsonOption = False,
) -> None:
    """Run past dates that have no complete night."""
    _end(_nightly(path, root, as_json).backfill(first.date(), last.date()), as_json)


@nightly.command(name="list", epilog=examples("gristmill nightly list night.yaml"))
def list_nights(
    path: JobArgument,
    count: Annotated[int, typer.Option(min=1, help="How many of the next nights.")] = 5,
    root: NewRootOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the next nights, and the last complete one."""
    schedule = _nightly(path, root, as_json)
    coming, latest = schedule.coming(count), schedule.journal.latest()
    if as_json:
        nights = [{"day": str(night.day), "at": night.at.isoformat()} for night in coming]
        print_json(
            {"job": schedule.journal.name, "root": schedule.journal.root.url, "coming": nights, "latest": latest}
        )
        return
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(schedule.schedule.timezone)
    for night in coming:
        local = night.at.astimezone(zone)
        utc = "" if schedule.schedule.timezone == "UTC" else f"  ({night.at:%Y-%m-%d %H:%M} UTC)"
        typer.echo(f"{night.day}  {local:%Y-%m-%d %H:%M %Z}{utc}")
    typer.echo("no night is complete yet" if latest is None else f"latest: {latest['day']}, run {latest['run_id']}")


@nightly.command(epilog=examples("gristmill nightly history night.yaml"))
def history(path: JobArgument, root: NewRootOption = "", as_json: JsonOption = False) -> None:
    """List every attempt so far, newest first."""
    schedule = _nightly(path, root, as_json)
    known = schedule.journal.read()[::-1]
    if as_json:
        print_json([one.model_dump(mode="json", exclude={"lease"}) for one in known])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("night", "attempt", "state", "began (UTC)", "problems", "run", "why"):
        table.add_column(heading, overflow="fold")
    for one in known:
        why = "" if one.complete or not one.error else one.error.splitlines()[0][:80]
        began = f"{one.started:%Y-%m-%d %H:%M}"
        table.add_row(str(one.day), str(one.number), one.state, began, f"{one.problems:,}", one.run_id or "", why)
    wide_console().print(table)


def _nightly(path: str, root: str, quiet: bool) -> Nightly:
    from jobs.config.job_file import read_job
    from jobs.nightly.clock import SystemClock
    from jobs.nightly.nightly import Nightly
    from jobs.running.run import run_job

    told = console(stderr=True)
    return Nightly(
        lambda: read_job(path),
        root,
        lambda job: run_job(job, job.execution, told, quiet),
        SystemClock(),
        lambda text: told.print(text, highlight=False, markup=False, soft_wrap=True),
    )


def _end(made: list[Attempt], as_json: bool) -> None:
    """Say what was done; leave with 1 where the last attempt of a night didn't succeed."""
    documents: list[dict[str, Any]] = [one.model_dump(mode="json", exclude={"lease"}) for one in made]
    if as_json:
        print_json(documents)
    elif not made:
        typer.echo("nothing is due")
    last = {one.day: one for one in made}
    if any(one.state in ("failed", "gate", "cut off", "interrupted", "unaffordable") for one in last.values()):
        raise typer.Exit(1)
