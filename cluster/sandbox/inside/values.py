"""Values as data: how arguments and results cross between tests and a program that can't be trusted.

Nothing of a program's own is ever rebuilt: numbers, text and containers cross as exactly that, so an object whose
``__eq__`` always agrees arrives as a reference that equals nothing. ``Outgoing`` and ``Incoming`` say what becomes of
the things that can't be data: functions that are passed, objects that are returned.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

Keep = Callable[[Any], Any]
"""Turns an object that isn't data into a reference, and a reference into something that stands for it."""


def encode(value: Any, keep: Keep) -> Any:
    """Return ``value`` as JSON. Subclasses of plain types become the plain type.

    Raises:
        RecursionError: it contains itself, or nests too deeply.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"i": _digits(int.__int__(value))} if abs(int.__int__(value)) >= 1 << 63 else int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)  # JSON as Python writes it knows NaN and infinities
    if isinstance(value, tuple):
        return {"t": [encode(item, keep) for item in tuple.__iter__(value)]}
    if isinstance(value, list):
        return {"l": [encode(item, keep) for item in list.__iter__(value)]}
    if isinstance(value, dict):
        return {"d": [[encode(key, keep), encode(item, keep)] for key, item in dict.items(value)]}
    for kind, tag in _COLLECTIONS:
        if isinstance(value, kind):
            return {tag: [encode(item, keep) for item in kind.__iter__(value)]}
    if isinstance(value, bytes | bytearray):
        return {"b": bytes(value).hex(), "mutable": isinstance(value, bytearray)}
    if isinstance(value, complex):
        return {"c": [complex(value).real, complex(value).imag]}
    if isinstance(value, Fraction):
        return {"F": [_digits(value.numerator), _digits(value.denominator)]}
    if isinstance(value, Decimal):
        return {"D": str(value)}
    if isinstance(value, range):
        return {"r": [value.start, value.stop, value.step]}
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        array = numpy.asarray(value)
        if array.dtype.kind in "biufc":
            scalar = isinstance(value, numpy.generic)
            return {"n": [array.dtype.str, list(array.shape), array.tobytes().hex()], "scalar": scalar}
    return keep(value)


_COLLECTIONS: tuple[tuple[Any, str], ...] = ((set, "s"), (frozenset, "f"), (deque, "q"))


def decode(data: Any, kept: Keep) -> Any:
    """Return the value that ``encode`` wrote; ``kept`` gets the references.

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
            return tuple(decode(item, kept) for item in content)
        case "l":
            return [decode(item, kept) for item in content]
        case "d":
            return {decode(key, kept): decode(item, kept) for key, item in content}
        case "s":
            return {decode(item, kept) for item in content}
        case "f":
            return frozenset(decode(item, kept) for item in content)
        case "q":
            return deque(decode(item, kept) for item in content)
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
        case "n":
            import numpy

            array = numpy.frombuffer(bytes.fromhex(content[2]), content[0]).reshape(content[1]).copy()
            return array[()] if data["scalar"] else array
        case _:
            return kept(data)


def _digits(number: int) -> str:
    return hex(number)  # decimal digits of large numbers are slow, and limited


def assign(target: Any, value: Any) -> None:
    """Give a mutable argument the contents it has after the call, as if the call had happened here."""
    if isinstance(target, list):
        target[:] = value
    elif isinstance(target, dict | set):
        target.clear()
        target.update(value)
    elif isinstance(target, bytearray):
        target[:] = value
    elif isinstance(target, deque):
        target.clear()
        target.extend(value)
