"""Keys of answers: one canonical text for all writings of the same answer.

A key says all that the answer says: ``12 cm``, ``50%``, ``2516_8``, ``6:00 pm``, ``x=3, y=5``, ``(3, 5)``, ``{3, 5}``.
It depends on the answer and on what its question asks, never on the expected answer: a bare number is ``50(%)`` where a
percentage is asked, and ``2516(_8)`` where base 8 is named. So equal keys of a problem are judged alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import gcd

from operators.verify.reading.asks import Asks
from operators.verify.reading.rationals import number_key
from operators.verify.reading.symbolic import Value
from operators.verify.reading.tree import Group, Leaf, LeafKind, Named, Reading
from operators.verify.reading.writing import text_key


def key_of(reading: Reading, values: Mapping[tuple[LeafKind, str], Value], asks: Asks) -> str:
    """Return the key of an answer.

    Args:
        values: what algebra made of the formulas in it.
    """
    match reading:
        case Leaf():
            return _leaf_key(reading, values, asks)
        case Named() if len(reading.values) == 1:
            [(name, value)] = reading.values
            return f"{name}={key_of(value, values, asks)}"
        case Named():
            return ", ".join(f"{name}={key_of(value, values, asks)}" for name, value in reading.values)
        case Group():
            asks = replace(asks, percent=False, bases=frozenset())  # it is one value that is asked for
            members = [key_of(member, values, asks) for member in reading.members]
            match reading.kind:
                case "list":
                    return ", ".join(members)
                case "set":
                    return f"{{{', '.join(sorted(set(members)))}}}"
                case "ratio":
                    return _ratio_key(reading)
                case _:
                    return f"{reading.brackets[0]}{', '.join(members)}{reading.brackets[-1]}"


def _leaf_key(leaf: Leaf, values: Mapping[tuple[LeafKind, str], Value], asks: Asks) -> str:
    if leaf.kind == "clock" and leaf.clock is not None:
        return _clock_key(leaf, asks)
    if leaf.kind in ("words", "text"):
        return text_key(leaf.text) if leaf.kind == "text" else " ".join(leaf.text.casefold().split())
    if leaf.base not in (0, 10):
        return f"{leaf.text}_{leaf.base}"
    digits = leaf.digits(asks.bases)
    if digits is not None:
        return f"{digits}(_{max(asks.bases)})"
    value = number_key(leaf.number) if leaf.number is not None else values[leaf.kind, leaf.text].key
    if leaf.kind == "region":
        sign = "::" if asks.pair else ":"  # no pair is a region
        return f"{leaf.variable}{sign} {value}" if leaf.variable else value
    if leaf.percent:
        return f"{value}%"
    carried = " ".join([*([leaf.unit.name] if leaf.unit else []), *sorted(leaf.label)])
    if leaf.unit is None and asks.percent:
        return f"{value}(%)"
    numeral = leaf.number is not None and re.fullmatch(r"-?\d+", value) is not None
    bases = sorted(
        base for base in asks.bases if base != 10 and numeral and all(int(d) < base for d in value.strip("-"))
    )
    if bases and not carried and not leaf.base:
        return f"{value}({''.join(f'_{base}' for base in bases)})"
    return f"{value} {carried}" if carried else value


def _clock_key(leaf: Leaf, asks: Asks) -> str:
    assert leaf.clock is not None
    hours, minutes, seconds = leaf.clock
    if asks.ratio and not leaf.time and leaf.number is not None:
        return number_key(leaf.number)
    if leaf.half and hours != 12:
        hours %= 12 if hours > 12 else 13
    written = f"{hours}:{minutes:02d}" + (f":{seconds:02d}" if seconds else "")
    return f"{written} {leaf.half}" if leaf.half else written


def _ratio_key(group: Group) -> str:
    numbers = [member.number for member in group.members if isinstance(member, Leaf) and member.number is not None]
    below = 1
    for number in numbers:
        below = below * number.denominator // gcd(below, number.denominator)
    whole = [int(number * below) for number in numbers]
    shared = gcd(*whole) or 1
    return ":".join(str(number // shared) for number in whole)
