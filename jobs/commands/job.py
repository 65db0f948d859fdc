"""Job files: start one, check one, print the schema for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.config.options import JsonOption, complete_pipeline, examples, print_json

app = typer.Typer()
files = typer.Typer(help="Start a job file, or print the JSON schema of job files.", no_args_is_help=True)


@files.command(epilog=examples("gristmill job init night.yaml", "gristmill job init math.yaml --pipeline math"))
def init(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The new file, .yaml.")],
    pipeline: Annotated[
        str, typer.Option(help="The pipeline whose settings it has.", autocompletion=complete_pipeline)
    ] = "arithmetic",
    as_json: JsonOption = False,
) -> None:
    """Write a commented job file to start from, and beside it the schema with which editors complete and check it."""
    from jobs.config.job_init import init as write

    written = write(path, pipeline)
    if as_json:
        print_json({"written": written})
    else:
        typer.echo(f"{' and '.join(written)} written. Check it any time: gristmill validate {path}")


@files.command(epilog=examples("gristmill job schema > job.schema.json"))
def schema() -> None:
    """Print the JSON schema of job files."""
    from jobs.config.job_init import job_schema

    print_json(job_schema())


@app.command(epilog=examples("gristmill validate job.yaml"))
def validate(
    path: Annotated[str, typer.Argument(metavar="JOB.yaml", help="A job file.")], as_json: JsonOption = False
) -> None:
    """List everything that is wrong with a job file. Exit code 2 if something is. Spends nothing."""
    from jobs.config.job_file import SUFFIXES
    from jobs.config.validate import find_problems
    from schemas.errors import BadInput

    if not path.endswith(SUFFIXES):
        raise BadInput(f"'{path}' isn't a job file: give a path that ends in .yaml or .yml")
    problems, notes = find_problems(path)
    if as_json:
        print_json({"job": path, "problems": problems, "notes": notes})
    else:
        for problem in problems:
            typer.echo(f"- {problem}", err=True)
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"{len(problems)} problem(s) in {path}" if problems else f"{path} is fine")
    if problems:
        raise typer.Exit(BadInput.exit_code)
