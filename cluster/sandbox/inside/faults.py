"""Exceptions as data: what a program raised, told by one process and raised again by the other.

An exception of Python's own arrives as what it is, with its arguments. One of the program's own arrives as an exception
of a class made for it here, below the nearest of Python's own: the same class for the same class over there, so that
tests can expect it by its name.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Callable
from typing import Any, Protocol

from .values import Standing

OWN = ("program", "__main__")
"""Modules whose classes are the program's."""
SILENT = (StopIteration, StopAsyncIteration, GeneratorExit)
"""What ends a loop without a word: raised by a call, it would end loops of the tests."""
_LONGEST = 500


class ProgramRaised(Exception):
    """What a program raised, where it isn't one of Python's own exceptions."""


class Keeper(Protocol):
    """The program's side, where exceptions are described."""

    def encode(self, value: Any) -> Any:
        """Return a value as data."""
        ...

    def refer(self, value: Any) -> dict[str, Any]:
        """Return a reference to an object."""
        ...


def describe(error: BaseException, keeper: Keeper | None = None) -> dict[str, Any]:
    """Return name, message and the line of the program where it was raised; with a keeper also its classes, arguments
    and attributes."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "program.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    try:
        message = str(error)[:_LONGEST]
    except BaseException:
        message = ""
    told: dict[str, Any] = {"type": str(type(error).__name__)[:100], "message": message, "line": line}
    if keeper is None:
        return told
    told["class"] = describe_class(type(error), keeper)
    for name, value in (("args", lambda: [*error.args]), ("attributes", lambda: {**vars(error)})):
        with contextlib.suppress(Exception):
            told[name] = keeper.encode(value())
    return told


def describe_class(kind: type, keeper: Keeper) -> list[Any]:
    """Return the classes that an exception is of, from its own to Python's: [module, name, reference or None]."""
    return [
        [str(one.__module__), str(one.__name__)[:100], keeper.refer(one) if one.__module__ in OWN else None]
        for one in kind.__mro__
        if one is not object
    ]


def told(raised: dict[str, Any]) -> str:
    """Return what a program raised, and in which line, in one line."""
    where = f" (line {raised['line']})" if raised.get("line") else ""
    return f"{raised['type']}{where}: {raised['message']}"


class Faults:
    """The exceptions of one program, and the classes that stand for those of its own.

    Args:
        silent: what ends loops may be raised by calls, too: the tests expect it by name.
    """

    def __init__(self, silent: bool = False) -> None:
        self._classes: dict[int, type[BaseException]] = {}
        self._silent = silent

    def made(self, raised: dict[str, Any], decode: Callable[[Any], Any]) -> BaseException:
        """Return an exception like the one described; its note says what was raised, and where."""
        kind = self.class_of(raised.get("class") or [])
        args: Any = (raised["message"],)
        with contextlib.suppress(Exception):
            args = tuple(decode(raised["args"]))
        error = _made(kind, args)
        with contextlib.suppress(Exception):
            for name, value in decode(raised["attributes"]).items():
                setattr(error, str(name), value)
        if isinstance(error, ProgramRaised):
            error.args = (told(raised),)
        elif issubclass(kind, Standing):
            error.__dict__["_message"] = str(raised["message"])
        error.add_note(told(raised))
        return error

    def class_of(self, described: list[Any]) -> type[BaseException]:
        """Return the class that stands for one of the program's, or is the one of Python's own."""
        own = [(str(name), ref["ref"]) for _, name, ref in described if ref]
        known = (_of_python(str(module), str(name)) for module, name, ref in described if not ref)
        kind: type[BaseException] = next((found for found in known if found is not None), ProgramRaised)
        if issubclass(kind, SILENT) and not self._silent:
            kind = ProgramRaised
        if own and kind is ProgramRaised:
            kind = Exception
        for name, ref in reversed(own):
            if ref not in self._classes:
                bases = (kind,) if issubclass(kind, Standing) else (_Own, kind)
                self._classes[ref] = type(name, bases, {"_reference": ref})
            kind = self._classes[ref]
        return kind


class _Own(Standing):
    """What an exception of the program's own says of itself."""

    __slots__ = ()
    _reference: int

    def __str__(self) -> str:
        message = self.__dict__.get("_message")
        return super().__str__() if message is None else message


def _made(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    try:
        return kind(*args)
    except Exception:
        error = kind.__new__(kind)
        error.args = args
        return error


def _of_python(module: str, name: str) -> type[BaseException] | None:
    """Return an exception class of Python's own, None for others, and for those that steer a test's run."""
    if module == "builtins":
        kind = getattr(builtins, name, None)
    elif module.partition(".")[0] in sys.stdlib_module_names and not module.startswith(("unittest", "test")):
        kind = getattr(sys.modules.get(module), name, None)
    else:
        return None
    wanted = isinstance(kind, type) and issubclass(kind, Exception | SystemExit | KeyboardInterrupt | GeneratorExit)
    return kind if wanted and kind is not Exception else None
