"""What several commands take and print: options, completion of names, examples, JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_ROOT = "./gristmill-data"


def _there(ctx: typer.Context, root: str) -> str:
    """Refuse a root that somebody typed and that isn't there, where nothing is found in a root that isn't."""
    if not ctx.resilient_parsing and root and _typed(ctx) and "://" not in root and not os.path.lexists(_local(root)):
        from cluster.storage.root import Root
        from schemas.errors import BadInput

        Root.at(root)  # says where a file is in the way
        raise BadInput(
            f"the root '{root}' doesn't exist{_near(root)} A run makes it: "
            f"gristmill run arithmetic --root {shlex.quote(root)}"
        )
    return root


def _typed(ctx: typer.Context) -> bool:
    source = ctx.get_parameter_source("root")
    return source is not None and source.name == "COMMANDLINE"


def _local(root: str) -> str:
    return os.path.abspath(os.path.expanduser(root))


def _near(root: str) -> str:
    """Return a hint at the folder beside it whose name is most like it."""
    import difflib

    folder, name = os.path.split(_local(root))
    try:
        there = [one.name for one in os.scandir(folder) if one.is_dir()]
    except OSError:  # there is none, or it is somebody else's
        return "."
    near = difflib.get_close_matches(name, there, n=1)
    return f"; did you mean '{os.path.join(os.path.dirname(root.rstrip('/')), near[0])}'?" if near else "."


_ROOT = "Where everything is kept: a folder or an s3:// URL."
RootOption = Annotated[str, typer.Option("--root", envvar="GRISTMILL_ROOT", callback=_there, help=_ROOT)]
"""Of commands that look at what is there."""
NewRootOption = Annotated[str, typer.Option("--root", envvar="GRISTMILL_ROOT", help=_ROOT)]
"""Of commands that make a root where there is none."""
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: sample.n=256 (the value is YAML)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
UnsafeOption = Annotated[
    bool,
    typer.Option(
        "--allow-unsafe-execution", help="Run programs that a model wrote [bold red]without a sandbox[/]. Don't."
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take only the first N problems.")]


def complete_pipeline(incomplete: str) -> list[str]:
    from pipelines import PIPELINES

    return [name for name in PIPELINES if name.startswith(incomplete)]


def complete_operator(incomplete: str) -> list[str]:
    from operators import OPERATORS

    return [name for name in OPERATORS if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    from cluster.records.reader import manifests
    from cluster.storage.root import Root

    root = Root.at(os.environ.get("GRISTMILL_ROOT", DEFAULT_ROOT))
    return [found.run_id for found in manifests(root) if found.run_id.startswith(incomplete)]


TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE|JOB.yaml", help="A pipeline's name or a job file.", autocompletion=complete_pipeline
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'.", autocompletion=complete_run),
]


def examples(*lines: str) -> str:
    return "[bold]Examples[/]\n\n" + "\n\n".join(f"[cyan]$ {line}[/]" for line in lines)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return what prints for people; its library is imported by commands that print more than a line."""
    from rich.console import Console

    return Console(stderr=stderr, width=width)


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and wide enough where there is none."""
    return console() if sys.stdout.isatty() else console(width=140)


def begun(sentence: str) -> None:
    """Say at once what a command is at, before the imports that it takes; nothing where JSON is asked for."""
    if "--json" not in sys.argv[1:]:
        typer.echo(sentence, err=True)


def command_line() -> str:
    return shlex.join(["gristmill", *sys.argv[1:]])


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
