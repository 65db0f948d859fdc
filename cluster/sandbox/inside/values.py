"""Values as data: how arguments and results cross between tests and a program that can't be trusted.

Nothing of a program's own is ever rebuilt: numbers, text, dates, containers and the like cross as exactly that, so an
object whose ``__eq__`` always agrees arrives as a reference that equals nothing. A ``Side`` says what becomes of what
can't be data: functions that are passed, objects and exceptions that are returned.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol

from . import scarce

DEEPEST = 500
"""How deeply lists may be nested in lists."""


class TooDeep(Exception):
    """A value contains itself, or nests too deeply."""


class Standing:
    """What stands, among tests, for an object of the program's. It crosses as that object."""

    __slots__ = ()


class Side(Protocol):
    """One of the two processes."""

    def keep(self, value: Any) -> dict[str, Any]:
        """Return a reference to an object that isn't data."""
        ...

    def kept(self, data: dict[str, Any]) -> Any:
        """Return what a reference of the other side's stands for."""
        ...

    def named(self, name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
        """Return a class of named tuples."""
        ...

    def array(self, array: Any) -> Any:
        """Return what an array of NumPy's is to be here."""
        ...


def encode(value: Any, side: Side, depth: int = 0) -> Any:
    """Return ``value`` as JSON. Subclasses of plain types become the plain type.

    Raises:
        TooDeep: it contains itself, or nests too deeply.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Standing):
        return side.keep(value)
    if isinstance(value, Enum):
        return _member(value, side)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"i": _digits(int.__int__(value))} if abs(int.__int__(value)) >= 1 << 63 else int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)  # JSON as Python writes it knows NaN and infinities
    if depth > DEEPEST:
        raise TooDeep
    depth += 1
    if isinstance(value, tuple):
        if "_standing" in getattr(value, "__dict__", ()):
            return side.keep(value.__dict__["_standing"])
        items = [encode(item, side, depth) for item in tuple.__iter__(value)]
        fields = getattr(type(value), "_fields", None)
        return {"t": items} if fields is None else _named_tuple(value, fields, items, side)
    if isinstance(value, list):
        return {"l": [encode(item, side, depth) for item in list.__iter__(value)]}
    if isinstance(value, dict):
        pairs = [[encode(key, side, depth), encode(item, side, depth)] for key, item in dict.items(value)]
        kind = next((known for known in _MAPPINGS if isinstance(value, _MAPPINGS[known])), None)
        return {"d": pairs} if kind is None else {"d": pairs, "kind": kind, "factory": _factory(value)}
    for kind, tag in _COLLECTIONS:
        if isinstance(value, kind):
            return {tag: [encode(item, side, depth) for item in kind.__iter__(value)]}
    if isinstance(value, deque):
        return {"q": [encode(item, side, depth) for item in deque.__iter__(value)], "most": value.maxlen}
    if isinstance(value, bytes | bytearray):
        return {"b": bytes(value).hex(), "mutable": isinstance(value, bytearray)}
    if isinstance(value, complex):
        return {"c": [complex(value).real, complex(value).imag]}
    if isinstance(value, Fraction):
        return {"F": [_digits(value.numerator), _digits(value.denominator)]}
    if isinstance(value, Decimal):
        return {"D": Decimal.__str__(value)}
    if isinstance(value, range):
        return {"r": [value.start, value.stop, value.step]}
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        array = numpy.asarray(value)
        if array.dtype.kind in "biufcSUMm":
            scalar = isinstance(value, numpy.generic)
            return {"n": [array.dtype.str, list(array.shape), array.tobytes().hex()], "scalar": scalar}
        if array.dtype.kind == "O":
            return {"N": [list(array.shape), [encode(item, side, depth) for item in array.ravel().tolist()]]}
    found = scarce.encode(value, lambda item: encode(item, side, depth))
    return side.keep(value) if found is None else found


_COLLECTIONS: tuple[tuple[Any, str], ...] = ((set, "s"), (frozenset, "f"))
_MAPPINGS: dict[str, Any] = {"ordered": OrderedDict, "counter": Counter, "default": defaultdict}
_FACTORIES: dict[str, Any] = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, set, tuple)}


def _factory(value: Any) -> str | None:
    factory = value.default_factory if isinstance(value, defaultdict) else None
    return next((name for name, kind in _FACTORIES.items() if kind is factory), None)


def _named_tuple(value: Any, fields: Any, items: list[Any], side: Side) -> dict[str, Any]:
    """Return a named tuple; one that can do more than that brings a reference to itself."""
    own = [name for kind in type(value).__mro__ for name in vars(kind) if kind not in _PLAIN]
    more = any(not name.startswith("_") and name not in fields for name in own)
    data = {"T": [type(value).__name__, list(map(str, fields)), items]}
    return {**data, **side.keep(value)} if more else data


_PLAIN = (tuple, object)


def _member(value: Enum, side: Side) -> dict[str, Any]:
    """Return a member of an enumeration: by its name, if it is one of Python's own; else a reference, with its number
    or text if it is one as well."""
    kind = type(value)
    if kind.__module__ not in ("program", "__main__"):
        return {"e": [kind.__module__, kind.__qualname__, value._name_], **side.keep(value)}
    plain = next((base for base in (int, str) if isinstance(value, base)), None)
    if plain is None:
        return side.keep(value)
    text = int.__int__(value) if plain is int else str.__str__(value)  # pyright: ignore[reportArgumentType]
    return {"E": [value._name_, text], **side.keep(value)}


def decode(data: Any, side: Side) -> Any:
    """Return the value that ``encode`` wrote; ``side`` gets the references.

    Raises:
        Exception: of any kind, for data that ``encode`` can't have written.
    """
    if not isinstance(data, dict):
        return data
    tag, content = next(iter(data.items()))
    match tag:
        case "i":
            return int(content, 16)
        case "t":
            return tuple(decode(item, side) for item in content)
        case "T":
            return _named(data, side)
        case "l":
            return [decode(item, side) for item in content]
        case "d":
            pairs = [(decode(key, side), decode(item, side)) for key, item in content]
            return _mapping(data, pairs) if "kind" in data else dict(pairs)
        case "s":
            return {decode(item, side) for item in content}
        case "f":
            return frozenset(decode(item, side) for item in content)
        case "q":
            return deque((decode(item, side) for item in content), data["most"])
        case "b":
            return bytearray.fromhex(content) if data["mutable"] else bytes.fromhex(content)
        case "c":
            return complex(*content)
        case "F":
            return Fraction(int(content[0], 16), int(content[1], 16))
        case "D":
            return Decimal(content)
        case "r":
            return range(*content)
        case "n" | "N":
            return _array(tag, data, side)
        case "ref" | "E" | "fault" | "class" | "function" | "iterator":
            return side.kept(data)
        case _:
            return scarce.decode(data, lambda item: decode(item, side), side.kept)


def _mapping(data: dict[str, Any], pairs: list[tuple[Any, Any]]) -> Any:
    if data["kind"] == "default":
        return defaultdict(_FACTORIES.get(data["factory"]), pairs)
    return _MAPPINGS[data["kind"]](dict(pairs) if data["kind"] == "counter" else pairs)


def _named(data: dict[str, Any], side: Side) -> Any:
    name, fields, items = data["T"]
    made = side.named(str(name), tuple(map(str, fields)))(*(decode(item, side) for item in items))
    if "ref" in data and hasattr(type(made), "_stand_for"):
        made._stand_for(side.kept({"ref": data["ref"], "type": str(name)}))
    return made


def _array(tag: str, data: dict[str, Any], side: Side) -> Any:
    import numpy

    if tag == "N":
        shape, items = data["N"]
        array = numpy.empty(len(items), dtype=object)
        array[:] = [decode(item, side) for item in items]
        return side.array(array.reshape(shape))
    kind, shape, content = data["n"]
    array = numpy.frombuffer(bytes.fromhex(content), kind).reshape(shape).copy()
    return array[()] if data["scalar"] else side.array(array)


def _digits(number: int) -> str:
    return hex(number)  # decimal digits of large numbers are slow, and limited


def is_mutable(value: Any) -> bool:
    """Whether what a function does to a value can be seen in it afterwards."""
    numpy: Any = sys.modules.get("numpy")
    known = isinstance(value, list | dict | set | bytearray | deque)
    return known or (numpy is not None and isinstance(value, numpy.ndarray))


def assign(target: Any, value: Any) -> None:
    """Give a mutable argument the contents it has after the call, as if the call had happened here."""
    if isinstance(target, list):
        if len(target) == len(value):  # lists in it stay the lists that they are
            for at, item in enumerate(value):
                if is_mutable(target[at]) and type(target[at]) is type(item):
                    assign(target[at], item)
                else:
                    target[at] = item
        else:
            target[:] = value
    elif isinstance(target, dict | set):
        target.clear()
        target.update(value)
    elif isinstance(target, bytearray):
        target[:] = value
    elif isinstance(target, deque):
        target.clear()
        target.extend(value)
    else:  # an array, whose shape can't change
        target[...] = value
