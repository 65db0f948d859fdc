"""The command line: its commands live in ``jobs.commands`` and beside what they are about.

Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 incomplete (resumable), 4 budget reached.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from jobs.commands import data, job, keep, look, measure, view, work
from jobs.commands.moe import layout, moe
from jobs.commands.nightly import nightly
from jobs.commands.submit import app as submit
from jobs.config.defect import defect
from jobs.config.options import examples
from schemas import __version__
from schemas.errors import BadInput, GristmillError, RunIncomplete
from schemas.installation import check_installation
from schemas.redaction import redact

app = typer.Typer(
    name="gristmill",
    help="Sample a language model thousands of times per problem; get verified answers and training data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for commands in (work.app, look.app, view.app, data.app, measure.app, keep.app, job.app, submit):
    app.add_typer(commands)
app.add_typer(nightly, name="nightly")
app.add_typer(job.files, name="job")
app.add_typer(moe, name="moe")
app.command(epilog=examples("gristmill layout DeepSeek-V3 --cluster cluster.yaml"))(layout)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    check_installation()


def main() -> None:
    """Run the command line; every error we raise on purpose becomes one message and its exit code."""
    sys.path.append(os.getcwd())  # where a user's own operators and functions lie; last, so that it hides nothing
    try:
        code = app(standalone_mode=False)
    except GristmillError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        code = error.exit_code
    except typer.Abort:
        typer.echo("interrupted", err=True)
        code = RunIncomplete.exit_code
    except typer.TyperException as error:  # usage: an unknown command or option, a missing argument
        typer.echo(f"error: {str(error).rstrip('.')}. See gristmill --help", err=True)
        code = BadInput.exit_code
    except Exception as error:
        typer.echo(f"error: {defect(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
