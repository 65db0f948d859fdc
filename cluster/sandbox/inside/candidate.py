"""A program as its tests see it: names that stand for functions and objects of another process."""

from __future__ import annotations

import itertools
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from . import references, values
from .arrays import guarded
from .faults import Faults, told
from .frames import Frames
from .references import NotCrossing, Reference

LARGEST_RESULT = 64 << 20
_WORD = re.compile(r"\w+")
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType, type)


class ProgramFailed(BaseException):
    """The program can't be executed, or is over a limit. No ``except Exception`` of a test's swallows it."""


class Program:
    """The program's process, through its socket.

    Args:
        tests: their source; what it names is what is tested.
    """

    def __init__(self, fd: int, until: float, tests: str = "") -> None:
        self._frames = Frames(fd, fd, largest=LARGEST_RESULT)
        self.until = until
        self._functions: list[Callable[..., Any]] = []
        self._objects: dict[int, Any] = {}
        self._tests = tests
        self._faults = Faults(silent="StopIteration" in tests or "StopAsyncIteration" in tests)
        self.doubts: str | None = None
        """What the tests have seen of the program that they couldn't compare: why their failure says nothing."""

    def start(self) -> tuple[bool, Any]:
        """Wait until the program has been executed; return (whether it defines the entry point, its value).

        Raises:
            ProgramFailed: it raised.
        """
        answer = self._read()
        if "raised" in answer:
            raise ProgramFailed(told(answer["raised"]))
        return self._named(answer)

    def name(self, name: str) -> tuple[bool, Any]:
        """Return (whether the program defines ``name``, its value)."""
        self._frames.send({"name": name})
        return self._named(self._read())

    def _named(self, answer: dict[str, Any]) -> tuple[bool, Any]:
        self._heard(answer)
        return ("value" in answer), values.decode(answer.get("value"), self)

    def method(self, fn_name: str, class_name: str | None) -> Any:
        """Return the function, or the method of a new object of the program's class, that is called; None: neither."""
        self._frames.send({"method": fn_name, "class": class_name})
        answer = self._read()
        if "raised" in answer:
            raise ProgramFailed(told(answer["raised"]))
        return self._named(answer)[1]

    def ask(self, ref: int, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Have the program do something with one of its objects; raise what it raises."""
        try:
            arguments = values.encode([args, kwargs], self)
        except values.TooDeep as error:
            raise NotCrossing("the tests pass what contains itself, or nests too deeply") from error
        self._frames.send({"ref": ref, "do": operation, "arguments": arguments})
        while "callback" in (answer := self._read()):
            self._call_back(answer)
        self._heard(answer)
        if "raised" in answer:
            faults = Faults(silent=True) if operation in ("next", "await") else self._faults
            raise faults.made(answer["raised"], lambda data: values.decode(data, self))
        for at, data in answer.get("changed", ()):
            values.assign(kwargs[at] if isinstance(at, str) else args[at], values.decode(data, self))
        if "same" in answer:
            at = answer["same"]
            return kwargs[at] if isinstance(at, str) else args[at]
        return values.decode(answer["value"], self)

    def is_tested(self, kind: str) -> bool:
        """Whether the tests name a class; functions aren't called like classes are."""
        return kind[:1].isupper() and kind in _WORD.findall(self._tests)

    def _heard(self, answer: dict[str, Any]) -> None:
        """Take what the program printed and what it couldn't give, beside its answer."""
        if answer.get("printed"):
            sys.stdout.write(str(answer["printed"]))
        if "foreign" in answer:
            self.doubts = f"a {answer['foreign']} can't be given to another process, and may be right"
        if "too_deep" in answer:
            raise NotCrossing("its result contains itself, or nests too deeply to be given to another process")

    def _read(self) -> dict[str, Any]:
        """Wait for the program's next message."""
        return self._frames.receive(self.until)

    def _call_back(self, asked: dict[str, Any]) -> None:
        try:
            args, kwargs = values.decode(asked["arguments"], self)
            result = self._functions[asked["callback"]](*args, **kwargs)
            self._frames.send({"value": values.encode(result, self)})
        except Exception as error:
            kind = type(error)
            name = kind.__name__ if kind.__module__ == "builtins" else "RuntimeError"
            self._frames.send({"raised": {"message": str(error)[:500], "type": name}})

    def keep(self, value: Any) -> dict[str, Any]:
        """Return a reference to one of the tests' own functions, or the one that the program gave."""
        if isinstance(value, values.Standing) or (isinstance(value, type) and issubclass(value, values.Standing)):
            return {"ref": value._reference}  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(value, Iterator):
            self._functions.append(lambda: [*itertools.islice(cast("Iterator[Any]", value), 1)])
            return {"iterator": len(self._functions) - 1}
        if not isinstance(value, _FUNCTIONS) and type(value).__module__ not in ("functools", "operator", "numpy"):
            raise NotCrossing(f"the tests pass a {type(value).__name__}, which can't be given to another process")
        self._functions.append(value)
        return {"function": len(self._functions) - 1}

    def kept(self, data: dict[str, Any]) -> Any:
        """Return what stands for an object of the program's; the same for the same object."""
        if "fault" in data:
            return self._faults.made(data["fault"], lambda inner: values.decode(inner, self))
        if "class" in data:
            return self._faults.class_of(data["class"])
        ref = int(data["ref"])
        if ref not in self._objects:
            kind = str(data["type"])
            reference = Reference(self, ref, kind)
            stands = {"coroutine": references.awaited, "generator": references.generated}.get(kind)
            if "E" in data:
                self._objects[ref] = references.member(reference, *data["E"])
            else:
                self._objects[ref] = reference if stands is None else stands(reference)
        return self._objects[ref]

    def named(self, name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
        """Return a class of named tuples."""
        return references.named_tuple(name, fields)

    def array(self, array: Any) -> Any:
        """Return an array; an empty one is equal to nothing that isn't."""
        return guarded(array)
