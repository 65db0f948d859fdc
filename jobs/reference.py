"""The reference of the documentation, written from the code: ``python -m jobs.reference FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text
from typer.main import get_command

from jobs.cli import app
from jobs.commands.table import SECTIONS
from jobs.looking.describe import Description, describe, overview

PAGES = {
    "pipeline": ("Pipelines", "`gristmill run NAME`; `gristmill job init FILE --pipeline NAME` writes all settings."),
    "operator": ("Operators", "Stages of pipelines; `gristmill op NAME` runs one on plain files."),
    "strategy": ("Strategies", "What `sample.strategy` can be: how the calls of one draw are spent."),
    "scorer": ("Scorers", "What gives the texts of a search their value: `sample.strategy.scorer`."),
    "policy": ("Policies", "What `sample.policy` can be: which problem gets the next samples."),
    "engine": ("Engines", "What `engine.kind` can be: what samples and scores."),
    "dataset": ("Datasets", "The columns of the tables between stages."),
}  # fmt: skip


def write(folder: Path) -> list[Path]:
    """Write a page for each kind, and one for the commands; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for kind, named in overview().items():
        title, about = PAGES[kind]
        lines = [f"# {title}", "", about, "", *_contents(named)]
        for name in named:
            for one in describe(f"{kind}:{name}"):
                lines += [*_section(one), ""]
        written.append(folder / f"{title.lower()}.md")
        written[-1].write_text("\n".join(lines))
    written.append(folder / "commands.md")
    written[-1].write_text("\n".join(_commands()))
    return written


def _contents(named: dict[str, str]) -> Iterator[str]:
    yield from ("| name | what it is |", "|---|---|")
    yield from (f"| [`{name}`](#{_anchor(name)}) | {_cell(about)} |" for name, about in named.items())
    yield ""


def _anchor(name: str) -> str:
    return name.replace(".", "-").replace("_", "-")


def _section(one: Description) -> Iterator[str]:
    yield f"## `{one.name}` {{ #{_anchor(one.name)} }}"
    yield ""
    yield one.about.replace("``", "`")
    yield ""
    for name, columns in one.inputs.items():
        yield f"- reads `{name}`: {', '.join(f'`{column}`' for column in columns)}"
    if one.output:
        yield f"- gives `{one.output}`"
    if one.lines:
        dataset = one.kind == "dataset"
        yield ""
        yield "| column | type | meaning |" if dataset else "| setting | type | default | meaning |"
        yield "|---|---|---|" if dataset else "|---|---|---|---|"
        for line in one.lines:
            default = [] if dataset else [_default(line.default)]
            cells = [f"`{line.name}`", _cell(line.type), *default, _cell(line.meaning)]
            yield f"| {' | '.join(cells)} |"
    if one.examples:
        yield ""
        yield "```console"
        yield from (f"$ {example}" for example in one.examples)
        yield "```"


def _default(value: str | None) -> str:
    if value is None:
        return "*must be given*"
    return _cell(f"`{value}`") if value.strip() else "*empty*"


def _cell(text: str) -> str:
    """Return a text that stays in its cell, and is no markup."""
    plain = Text.from_markup(text).plain if "[/]" in text else text  # what rich would colour
    pieces = " ".join(plain.replace("``", "`").split()).split("`")
    for at in range(0, len(pieces), 2):  # what is between backticks is shown as it stands
        pieces[at] = pieces[at].replace("<", "&lt;").replace("{", "&#123;").replace("}", "&#125;")
    return "`".join(pieces).replace("|", "\\|") or " "


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 incomplete (the same command goes on), 4 budget spent."
    group = get_command(app)
    for title, section in SECTIONS.items():
        yield ""
        yield f"## {title}"
        for name in section:
            command = group.commands[name]  # type: ignore[attr-defined]
            below = getattr(command, "commands", None)
            yield from _command(name, command) if below is None else ()
            for more, one in (below or {}).items():
                yield from _command(f"{name} {more}", one)


def _command(name: str, command: object) -> Iterator[str]:
    context = command.make_context(f"gristmill {name}", [], resilient_parsing=True)  # type: ignore[attr-defined]
    yield ""
    yield f"### `gristmill {name}`"
    yield ""
    yield command.help or ""  # type: ignore[attr-defined]
    yield ""
    yield "| argument or option | meaning |"
    yield "|---|---|"
    for parameter in command.get_params(context):  # type: ignore[attr-defined]
        names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
        shown = names if names.startswith("`-") else _cell(f"`{parameter.metavar or parameter.name.upper()}`")
        yield f"| {shown} | {_cell(getattr(parameter, 'help', '') or '')} |"


if __name__ == "__main__":
    for page in write(Path(sys.argv[1])):
        print(page)
