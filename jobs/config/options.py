"""What several commands take and print: options, completion of names, examples, JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

DEFAULT_ROOT = "./gristmill-data"

RootOption = Annotated[
    str, typer.Option("--root", envvar="GRISTMILL_ROOT", help="Where everything is kept: a folder or an s3:// URL.")
]
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


def wide_console() -> Console:
    """Return a console for tables: as wide as the terminal, and wide enough where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=140)


def command_line() -> str:
    return shlex.join(["gristmill", *sys.argv[1:]])


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
