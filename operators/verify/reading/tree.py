"""What an answer says, as a tree: leaves with a value and what it carries, groups of several, values with names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from operators.verify.reading.units import Unit

LeafKind = Literal["number", "formula", "region", "words", "clock", "text"]
NUMERAL = re.compile(r"[0-9A-Z]+")
GroupKind = Literal["list", "set", "tuple", "interval", "ratio"]


@dataclass(frozen=True)
class Leaf:
    """One value, and what is said along with it.

    Attributes:
        kind: ``number``: known exactly; ``formula``: left to algebra; ``region``: a set of numbers (``x < 3``);
            ``words``; ``clock``: ``h:mm``; ``text``: a formula with a remainder that can't be read.
        text: the value as it is written, tidied, without what it carries.
        number: the value of a number; of a clock its quotient, where it has one.
        unit: of measurement, or a currency.
        label: words behind the number that say what is counted.
        percent: it has the sign.
        base: of a numeral that names it; 0: it names none.
        clock: hours, minutes and seconds.
        time: of a clock: it is known to be a time.
        half: ``am`` or ``pm``.
        variable: of a region.
    """

    kind: LeafKind
    text: str
    number: Fraction | None = None
    unit: Unit | None = None
    label: frozenset[str] = field(default_factory=frozenset[str])
    percent: bool = False
    base: int = 0
    clock: tuple[int, int, int] | None = None
    time: bool = False
    half: str = ""
    variable: str = ""

    def digits(self, bases: Collection[int]) -> str | None:
        """Return a bare text as a numeral with letters for digits, where one of ``bases`` has such; else None."""
        text = self.text.upper()
        if self.kind == "number" or not bases or not NUMERAL.fullmatch(text):
            return None
        return text if max(bases) > max(int(digit, 36) for digit in text) else None


@dataclass(frozen=True)
class Group:
    """Several values: a bare list, ``{...}``, ``(...)``, an interval with its brackets, or ``a:b:c``."""

    kind: GroupKind
    members: tuple[Reading, ...]
    brackets: str = ""
    text: str = ""
    """As it is written: of two members in brackets, an interval for algebra."""


@dataclass(frozen=True)
class Named:
    """Values with names: ``x = 3, y = 5`` by name; ``x = 3 or x = 5`` is one name with a list."""

    values: tuple[tuple[str, Reading], ...]
    text: str = ""
    """The whole, where it is one equation."""


Reading = Leaf | Group | Named


def leaves(reading: Reading) -> Iterator[Leaf]:
    """Yield all leaves of a reading."""
    match reading:
        case Leaf():
            yield reading
        case Group():
            for member in reading.members:
                yield from leaves(member)
        case Named():
            for _, value in reading.values:
                yield from leaves(value)
