"""What is wrong with how a command was called, in a sentence: what is missing or mistyped, what fits, an example."""

from __future__ import annotations

import difflib
import re
from typing import Any

_MARKS = re.compile(r"\[/?[a-z ]*\]")
_CHOICES = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.*')")


def told(error: Exception) -> str:
    """Return a sentence about an error of usage (typer's): the nearest of what was meant, and the command's example."""
    ctx: Any = getattr(error, "ctx", None)
    if ctx is None or ctx.parent is None:
        return f"{str(error).rstrip('.')}. See gristmill --help"
    format_message: Any = getattr(error, "format_message", lambda: str(error))
    said = str(format_message()).replace("Value error, ", "").strip()
    said = said.replace("\n\t", " ").replace("Choose from:", "Give one of:").rstrip(".")
    said = f"{said[:1].lower()}{said[1:]}"
    if found := _CHOICES.search(said):
        said += _near(found["given"], found["known"].strip("'").split("', '"))
    if type(error).__name__ == "NoSuchOption" and "Possible options" not in said:
        option = str(getattr(error, "option_name", ""))
        said += _near(option, [name for param in ctx.command.params for name in param.opts if name.startswith("-")])
    example = _example(ctx.command.epilog or "")
    remedy = f"For example: {example}. " if example and type(error).__name__ == "MissingParameter" else ""
    return f"{said}{'' if said.endswith('?') else '.'} {remedy}See {_path(ctx)} --help"


def _near(given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _example(epilog: str) -> str:
    """Return the first of a command's examples, without what lays it out."""
    lines = [_MARKS.sub("", line).strip() for line in epilog.splitlines()]
    return next((line.removeprefix("$ ") for line in lines if line.startswith("$ ")), "")


def _path(ctx: Any) -> str:
    """Return the words that name a command: ``gristmill nightly run``."""
    words: list[str] = []
    while ctx is not None and ctx.parent is not None:
        words.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return " ".join(["gristmill", *words])
