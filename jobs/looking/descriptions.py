"""How ``gristmill describe`` and ``gristmill op NAME --help`` print what they say."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobs.looking.describe import Description

TITLES = {"policy": "Policies", "strategy": "Strategies"}


def print_overview(console: Console, found: dict[str, dict[str, str]]) -> None:
    """Print what there is, by kind, a line each."""
    for kind, named in found.items():
        console.print(Text(TITLES.get(kind, f"{kind}s".capitalize()), style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for name, about in named.items():
            table.add_row(Text(name), Text(about))
        console.print(table)
        console.print()
    console.print("gristmill describe NAME says what its settings, or columns, mean.")


def print_description(console: Console, one: Description) -> None:
    """Print what something is: its text, what it reads and gives, and each setting or column."""
    console.print(Text.assemble((one.name, "bold cyan"), f"  ({one.kind})"))
    console.print(Padding(Text(one.about), (1, 0, 1, 2)))
    for name, columns in one.inputs.items():
        console.print(Text.assemble("  reads ", (name, "bold"), f": {', '.join(columns)}"))
    if one.output:
        console.print(Text.assemble("  gives ", (one.output, "bold")))
    if one.lines:
        table = Table(box=None, padding=(0, 2, 0, 2), title=None)
        table.add_column("column" if one.kind == "dataset" else "setting", style="cyan", no_wrap=True)
        table.add_column("type")
        if one.kind != "dataset":
            table.add_column("default")
        table.add_column("meaning", ratio=1)
        for line in one.lines:
            default = [] if one.kind == "dataset" else [Text("must be given" if line.default is None else line.default)]
            table.add_row(Text(line.name), Text(line.type), *default, Text(line.meaning))
        console.print()
        console.print(table)
    for example in one.examples:
        console.print(Text(f"  $ {example}", style="dim"))
    console.print()
