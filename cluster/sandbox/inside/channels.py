"""What tests do to their own process, expecting the program to notice: it is in another, so their failure says nothing
of it. Files and what is printed are no such things: both processes see the same folder, and the program's output is
handed on."""

from __future__ import annotations

import sys
from typing import Any

_EVENTS = {"os.putenv": "change the environment", "os.chdir": "change the folder"}
_done: list[str] = []


def watch() -> None:
    """Notice from now on what the tests do; it can't be unwatched, and makes all else a little slower."""
    sys.addaudithook(_noticed)


def _noticed(event: str, _: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        notice(_EVENTS[event])


def notice(what: str) -> None:
    """Take down something that the tests do."""
    if what not in _done:
        _done.append(what)


def why() -> str | None:
    """Return why the tests' failure says nothing; None if there is no reason."""
    if sys.stdin is not sys.__stdin__:
        notice("replace standard input")
    return f"the tests {' and '.join(_done)}, which the program's process doesn't see" if _done else None


def watch_patches() -> None:
    """Notice what unittest.mock replaces. What the program prints is handed on, so standard output may be replaced."""
    from unittest import mock

    patch: Any = mock._patch  # pyright: ignore
    entered, in_dict = patch.__enter__, mock._patch_dict.__enter__  # pyright: ignore

    def enter(self: Any) -> Any:
        if self.attribute not in ("stdout", "stderr"):
            notice(f"replace '{self.attribute}'")
        return entered(self)

    def enter_dict(self: Any) -> Any:
        notice("replace what is in a dictionary")
        return in_dict(self)

    patch.__enter__, mock._patch_dict.__enter__ = enter, enter_dict  # pyright: ignore
