"""The command line: its commands live in ``jobs.commands``, and ``table`` there names them all.

Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 incomplete (resumable), 4 budget reached.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Annotated

import typer

from jobs.commands.table import Commands
from schemas import __version__
from schemas.errors import BadInput, GristmillError, RunIncomplete
from schemas.installation import check_installation

app = typer.Typer(
    name="gristmill",
    cls=Commands,
    help="Sample a language model thousands of times per problem; get verified answers and training data.",
    no_args_is_help=True,
    rich_markup_mode=None,  # its help is a table, printed before rich could be imported
    pretty_exceptions_enable=False,
)


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
    gc.set_threshold(200_000)  # imports make many objects that stay: looking through them every 700 takes a tenth of it
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looked for among all packages; none is ours
    sys.path.append(os.getcwd())  # where a user's own operators and functions lie; last, so that it hides nothing
    try:
        code = app(standalone_mode=False)
    except GristmillError as error:
        code = _end(str(error), error.exit_code)
    except typer.Abort:
        code = _end("interrupted", RunIncomplete.exit_code, "")
    except typer.TyperException as error:  # usage: an unknown command or option, a missing argument
        said = str(error)
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help, which rich has printed
            typer.echo(said, err=True, nl=bool(said))
            code = BadInput.exit_code
        else:
            from jobs.config.usage import told

            code = _end(told(error), BadInput.exit_code)
    except Exception as error:
        from jobs.config.defect import defect

        code = _end(defect(error), 1)
    gc.freeze()  # what is left goes with the process: to look through it on the way out takes as long as NumPy's import
    sys.exit(code if isinstance(code, int) else 0)


def _end(sentence: str, code: int, prefix: str = "error: ") -> int:
    """Say why a command ends; where it was to print JSON, as JSON, too."""
    from schemas.redaction import redact

    sentence = redact(sentence)
    typer.echo(f"{prefix}{sentence}", err=True)
    if "--json" in sys.argv[1:]:
        typer.echo(json.dumps({"error": sentence, "exit_code": code}, ensure_ascii=False))
    return code


if __name__ == "__main__":
    main()
