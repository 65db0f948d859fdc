"""The program's side of its objects: what the tester has references to, and what may be done with them."""

from __future__ import annotations

import builtins
import collections
import copy
import io
import operator
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from .faults import OWN, describe, describe_class
from .frames import Frames
from .values import decode, encode

MOST_PRINTED = 1 << 20
"""Bytes of what a program prints between two answers that are kept for its tests; more is dropped."""
_DEEP = 10_000


class Kept:
    """Objects that the tester has references to, functions of the tester's, and what was printed meanwhile."""

    def __init__(self, frames: Frames, namespace: dict[str, Any]) -> None:
        self._frames, self._namespace = frames, namespace
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._within = 0
        self._foreign: str | None = None
        self._bytes: _Bounded | None = None

    @cached_property
    def printed(self) -> io.TextIOWrapper:
        """What the program prints to."""
        self._bytes = _Bounded()
        return io.TextIOWrapper(self._bytes, encoding="utf-8", errors="surrogatepass", newline="")

    def encode(self, value: Any) -> Any:
        """Return a value as data; however deep a program may recurse, this may go as deep as it has to."""
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            return encode(value, self)
        finally:
            sys.setrecursionlimit(limit)

    def told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer with what else the tester has to know."""
        if self._bytes is not None and not self.printed.closed:
            self.printed.flush()
            if printed := self._bytes.taken():
                answer["printed"] = printed
        if self._foreign is not None:
            answer["foreign"], self._foreign = self._foreign, None
        return answer

    def refer(self, value: Any) -> dict[str, Any]:
        """Return a reference to an object, the same for the same object."""
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)  # kept: no other object gets its id
        return {"ref": number, "type": str(type(value).__name__)[:100]}

    def keep(self, value: Any) -> dict[str, Any]:
        """Return what stands for an object that isn't data: a description of an exception, else a reference."""
        if isinstance(value, BaseException) and self._within < 4:
            self._within += 1
            try:
                return {"fault": describe(value, self)}
            finally:
                self._within -= 1
        if isinstance(value, type) and issubclass(value, BaseException):
            return {"class": describe_class(value, self)}
        kind = type(value)
        if kind.__module__ not in OWN and kind.__eq__ is not object.__eq__ and not callable(value):
            self._foreign = kind.__name__
        return self.refer(value)

    def kept(self, data: dict[str, Any]) -> Any:
        """Return the object, or what asks the tester's function or iterator."""
        if "ref" in data:
            return self._objects[data["ref"]]
        if "iterator" in data:
            return self._pulled(data["iterator"])
        return lambda *args, **kwargs: self._back(data["function"], args, kwargs)

    def _pulled(self, number: int) -> Iterator[Any]:
        while found := self._back(number, (), {}):
            yield found[0]

    def _back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._frames.send({"callback": number, "arguments": self.encode([args, kwargs])})
        answer = self._frames.receive()
        if "raised" in answer:
            raise getattr(builtins, answer["raised"]["type"], RuntimeError)(answer["raised"]["message"])
        return decode(answer["value"], self)

    def named(self, name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
        """Return the program's class of named tuples, or one like the tests'."""
        own = self._namespace.get(name)
        known = isinstance(own, type) and getattr(own, "_fields", None) == fields
        return own if known else collections.namedtuple(name, fields, rename=True)  # pyright: ignore

    def array(self, array: Any) -> Any:
        """Return an array as it is."""
        return array


class _Bounded(io.BytesIO):
    """What was printed, up to a limit."""

    def write(self, data: Any, /) -> int:
        if self.tell() < MOST_PRINTED:
            super().write(data)
        return len(data)

    def taken(self) -> str:
        """Return what is there, and forget it."""
        if not self.tell():
            return ""
        text = self.getvalue().decode("utf-8", "replace")
        self.seek(0)
        self.truncate()
        return text


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _awaited(target: Any) -> Any:
    import asyncio

    return asyncio.run(_result(target))


def _entered(target: Any) -> Any:
    entered = target.__enter__()
    return None if entered is target else entered


def _left(target: Any, said: str | None) -> Any:
    return target.__exit__(*((None,) * 3 if said is None else (Exception, Exception(said), None)))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, *args, **kwargs: target(*args, **kwargs),
    "attribute": getattr,
    "set_attribute": setattr,
    "del_attribute": delattr,
    "item": lambda target, key: target[key],
    "set_item": lambda target, key, value: target.__setitem__(key, value),
    "del_item": lambda target, key: target.__delitem__(key),
    "contains": lambda target, item: item in target,
    "len": len,
    "bool": bool,
    "int": int,
    "float": float,
    "index": operator.index,
    "str": str,
    "repr": repr,
    "format": format,
    "iterate": iter,
    "reversed": reversed,
    "next": lambda target: next(target),
    "await": _awaited,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": _entered,
    "exit": _left,
    "is_instance": lambda target, instance: isinstance(instance, target),
    "is_subclass": lambda target, kind: issubclass(kind, target),
    "equal": lambda target, other: bool(target == other),
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "neg", "abs", "invert")},
}
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    _operate: Callable[[Any, Any], Any] = getattr(operator, _name)
    OPERATIONS[_name.rstrip("_")] = _operate
    OPERATIONS[f"r{_name.rstrip('_')}"] = lambda target, other, _operate=_operate: _operate(other, target)
