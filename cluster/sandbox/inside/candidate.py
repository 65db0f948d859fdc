"""A program as its tests see it: names that stand for functions and objects of another process."""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import values
from .frames import Frames, TooSlow
from .streams import LOOK, overstepping

LARGEST_RESULT = 64 << 20


class ProgramFailed(BaseException):
    """The program can't be executed, or is over a limit. No ``except Exception`` of a test's swallows it."""


class NotIsolated(BaseException):
    """The program's process couldn't be shut in; nothing was executed."""


class ProgramRaised(Exception):
    """What a program raised, where it isn't one of Python's own exceptions."""


class Program:
    """The program's process, through its socket."""

    def __init__(self, fd: int, until: float, limits: dict[str, Any], watched: bool) -> None:
        self._frames = Frames(fd, fd, largest=LARGEST_RESULT)
        self._until, self._limits, self._watched = until, limits, watched
        self._functions: list[Callable[..., Any]] = []

    def start(self) -> tuple[bool, Any]:
        """Wait until the program has been executed; return (whether it defines the entry point, its value).

        Raises:
            ProgramFailed: it raised.
            NotIsolated: it wasn't executed, because it couldn't be contained.
        """
        answer = self._read()
        if "broken" in answer:
            raise NotIsolated(answer["broken"])
        if "raised" in answer:
            raise ProgramFailed(told(answer["raised"]))
        return ("value" in answer), values.decode(answer.get("value"), self._stand_in)

    def named(self, name: str) -> tuple[bool, Any]:
        """Return (whether the program defines ``name``, its value)."""
        self._frames.send({"name": name})
        answer = self._read()
        return ("value" in answer), values.decode(answer.get("value"), self._stand_in)

    def ask(self, ref: int, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Have the program do something with one of its objects; raise what it raises."""
        self._frames.send({"ref": ref, "do": operation, "arguments": values.encode([args, kwargs], self._lend)})
        while "callback" in (answer := self._read()):
            self._call_back(answer)
        if "raised" in answer:
            raise _exception(answer["raised"])
        for at, data in answer.get("changed", ()):
            values.assign(args[at], values.decode(data, self._stand_in))
        return values.decode(answer["value"], self._stand_in)

    def _read(self) -> Any:
        """Wait for the program's next message, and watch what it uses meanwhile."""
        while not self._frames.ready(LOOK):
            if time.monotonic() > self._until:
                raise TooSlow
            over = overstepping(self._limits) if self._watched else None
            if over is not None:
                raise ProgramFailed(over)
        return self._frames.receive(self._until)

    def _call_back(self, asked: dict[str, Any]) -> None:
        try:
            args, kwargs = values.decode(asked["arguments"], self._stand_in)
            result = self._functions[asked["callback"]](*args, **kwargs)
            self._frames.send({"value": values.encode(result, self._lend)})
        except Exception as error:
            self._frames.send({"raised": {"message": str(error)[:500]}})

    def _lend(self, value: Any) -> Any:
        if isinstance(value, Reference):
            return {"ref": value._reference}  # pyright: ignore[reportPrivateUsage]
        if not callable(value):
            raise TypeError(f"a test passes a {type(value).__name__}, which can't be given to another process")
        self._functions.append(value)
        return {"function": len(self._functions) - 1}

    def _stand_in(self, data: dict[str, Any]) -> Any:
        return Reference(self, int(data["ref"]), str(data["type"]))


class Reference:
    """An object of the program's. What is done to it is done over there; it equals no value of the tests' own."""

    def __init__(self, owner: Program, reference: int, kind: str) -> None:
        self._owner, self._reference, self._kind = owner, reference, kind

    def _ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        return self._owner.ask(self._reference, operation, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("attribute", name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("set_item", key, value)

    def __contains__(self, item: Any) -> bool:
        return bool(self._ask("contains", item))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return f"<{self._kind} of the program>"

    def __iter__(self) -> Iterator[Any]:
        iterator = self._ask("iterate")
        while True:
            try:
                yield next(iterator)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._ask("next")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and (self._reference == other._reference or bool(self._ask("equal", other)))

    def __hash__(self) -> int:
        return self._reference


def told(raised: dict[str, Any]) -> str:
    """Return what a program raised, and in which line, in one line."""
    where = f" (line {raised['line']})" if raised.get("line") else ""
    return f"{raised['type']}{where}: {raised['message']}"


def _exception(raised: dict[str, Any]) -> Exception:
    """Return an exception of the nearest of Python's own kinds; its note says what was raised, and where."""
    error = _of_kind(raised)
    error.add_note(told(raised))
    return error


def _of_kind(raised: dict[str, Any]) -> Exception:
    for name in raised["bases"]:
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            try:
                return kind(raised["message"])
            except Exception:
                break
    return ProgramRaised(told(raised))
