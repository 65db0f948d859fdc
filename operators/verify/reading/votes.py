"""Which keys are one answer in a vote.

A bare answer (``12``) joins the largest class of its value (``12 cm`` with ``3/25 m``, or ``12 m``). Two answers that
carry different units, bases, signs, names or labels are never united: a class knows all that its keys say.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import cast

from operators.verify.reading.rationals import number_key, significant
from operators.verify.reading.reader import read
from operators.verify.reading.tree import Group, Leaf, Named, Reading

SPEAKING = r"[\s%:=_,(){}\[\]]"
"""What every key has that says more than a plain value, or that may join one that does."""
DIGITS = 6
"""To how many decimals and significant digits inexact numbers have to agree."""
_ASKED = re.compile(r"(.*)\((%|_[\d_]+)\)")
_NAMED = re.compile(r"([A-Za-z\\][^=,(){}]*)=([^=,]*)")
_RELATED = re.compile(r"([A-Za-z]): (.*)")


@dataclass(frozen=True)
class _Meaning:
    """What a key says.

    Attributes:
        values: what it may be known by; keys of one class share one.
        said: what it carries, by kind (``unit``, ``name``, ...).
        order: of a bare list: a tuple in another order is another answer.
    """

    values: frozenset[Hashable]
    said: frozenset[tuple[str, Hashable]] = frozenset()
    order: tuple[Hashable, ...] = ()

    def saying(self, **said: Hashable) -> _Meaning:
        """Return the same value with more said about it."""
        return _Meaning(self.values, frozenset({**dict(self.said), **said}.items()), self.order)


def _number(value: Fraction) -> Hashable:
    """Return what inexact numbers that agree have in common."""
    return (
        ("number", value, value)
        if value.denominator == 1
        else ("number", round(value, DIGITS), significant(value, DIGITS))
    )


@lru_cache(maxsize=65536)
def _meaning(key: str) -> _Meaning:
    named = _NAMED.fullmatch(key)
    if named:
        return _meaning(named[2]).saying(name=named[1].casefold())
    asked = _ASKED.fullmatch(key)
    if asked and asked[2] == "%":
        return _Meaning(frozenset({("asked", asked[1])}))
    if asked:
        return _Meaning(frozenset(("numeral", asked[1], int(base)) for base in asked[2].split("_") if base))
    related = _RELATED.fullmatch(key)
    if related:
        return _meaning(related[2]).saying(name=related[1])
    braced = key.startswith("{") and key.endswith("}")
    return _meant(read(rf"\{{{key[1:-1]}\}}" if braced else key))


def _meant(reading: Reading) -> _Meaning:
    match reading:
        case Leaf():
            return _leaf(reading)
        case Group():
            return _group(reading)
        case Named():
            inside = [(name, _meant(value)) for name, value in reading.values]
            if len(inside) == 1:
                [(name, value)] = inside
                return value.saying(name=name.casefold())
            order = tuple(value for _, value in inside)
            names = tuple(name.casefold() for name, _ in inside)
            return _Meaning(_shuffled(order), frozenset({("brackets", "()"), ("order", order), ("names", names)}))


def _leaf(leaf: Leaf) -> _Meaning:
    if leaf.clock is not None:
        values: set[Hashable] = {("clock", leaf.clock)}
        if not any(leaf.clock[1:]):
            values.add(_number(Fraction(leaf.clock[0])))
        if leaf.number is not None:
            values.add(_number(leaf.number))
        said: set[tuple[str, Hashable]] = {("unit", leaf.clock)}
        return _Meaning(frozenset(values), frozenset(said | ({("half", leaf.half)} if leaf.half else set())))
    if leaf.base:
        return _Meaning(frozenset({("numeral", leaf.text, leaf.base)}), frozenset({("unit", leaf.base)}))
    bare: Hashable = ("text", leaf.text) if leaf.number is None else _number(leaf.number)
    if leaf.percent:
        share: Hashable = ("hundredth", leaf.text) if leaf.number is None else _number(leaf.number / 100)
        asked = leaf.text if leaf.number is None else number_key(leaf.number)
        return _Meaning(frozenset({share, ("asked", asked)}), frozenset({("unit", "%")}))
    found = _Meaning(frozenset({bare}))
    if leaf.unit is not None:
        unit = leaf.unit
        number = _times_pi(leaf.text) if leaf.number is None and unit.pi == -1 else leaf.number
        if number is None or (unit.pi and leaf.number is not None):
            measured: Hashable = ("text", leaf.text, unit.factor, unit.pi)
        else:
            measured = _number((number + unit.offset) * unit.factor)
        found = _Meaning(
            frozenset({bare, ("measure", unit.powers, measured)}), frozenset({("unit", (unit.powers, measured))})
        )
    return found.saying(label=leaf.label) if leaf.label else found


def _times_pi(text: str) -> Fraction | None:
    """Return how many times pi a text is, where that is rational: ``2*pi/3``."""
    found = re.fullmatch(r"(-?)(?:(\d+)\s*\*?\s*)?\\pi\s*(?:/\s*(\d+))?", text.strip())
    if found is None or found[3] == "0":
        return None
    return Fraction(int(f"{found[1]}{found[2] or 1}"), int(found[3] or 1))


def _group(group: Group) -> _Meaning:
    order = tuple(map(_meant, group.members))
    match group.kind:
        case "list":
            return _Meaning(_shuffled(order), order=order)
        case "set":
            return _Meaning(_shuffled(tuple(dict.fromkeys(order))), frozenset({("brackets", "{}")}))
        case "tuple" if group.brackets == "()":
            return _Meaning(_shuffled(order), frozenset({("brackets", "()"), ("order", order)}))
        case _:
            return _Meaning(frozenset({(group.kind, group.brackets, order)}))


def _shuffled(members: tuple[_Meaning, ...]) -> frozenset[Hashable]:
    counts = {member: members.count(member) for member in members}
    return frozenset({("list", frozenset(counts.items()))})


@dataclass
class _Class:
    keys: list[str]
    votes: int
    values: set[Hashable]
    said: dict[str, Hashable] = field(default_factory=dict[str, Hashable])
    bare: frozenset[Hashable] | None = None
    """What those without a unit say in a class with one: 5 m and 500 cm are one answer, 5 and 500 aren't."""

    def takes(self, meaning: _Meaning) -> bool:
        """Whether a key may join: it shares a value, and says nothing else than what is said here."""
        said = dict(meaning.said)
        if not self.values & meaning.values or (
            meaning.order != self.said.get("order", meaning.order) and meaning.order
        ):
            return False
        if "unit" in self.said and "unit" not in said and self.bare not in (None, meaning.values):
            return False
        measures = {"unit", "label"} & {*said}, {"unit", "label"} & {*self.said}
        if len(measures[0]) == len(measures[1]) == 1 and measures[0] != measures[1]:
            return False  # 12 cm and 12 eggs
        return all(_agree(kind, content, self.said[kind]) for kind, content in said.items() if kind in self.said)

    def learn(self, meaning: _Meaning) -> None:
        """Take over what a new key says; of two labels the longer."""
        if "unit" in self.said and "unit" not in dict(meaning.said):
            self.bare = meaning.values
        for kind, content in meaning.said:
            if kind == "label" and kind in self.said:
                content = max(content, self.said[kind], key=lambda label: len(cast("frozenset[str]", label)))
            self.said[kind] = content


def _agree(kind: str, one: Hashable, other: Hashable) -> bool:
    if kind != "label":
        return one == other
    fewer, more = cast("frozenset[str]", one), cast("frozenset[str]", other)
    return fewer <= more or more <= fewer


def unite(votes: Mapping[str, int]) -> dict[str, str]:
    """Return, for each key of one problem, the key that stands for its class.

    Args:
        votes: how many samples gave each key. The result doesn't depend on their order.
    """
    alike: dict[Hashable, list[str]] = {}
    for key in sorted(votes, key=lambda key: (-votes[key], key)):
        meaning = _meaning(key)
        alike.setdefault((meaning.values, meaning.said), []).append(key)
    groups = [(_meaning(keys[0]), keys, sum(votes[key] for key in keys)) for keys in alike.values()]
    classes: list[_Class] = []
    # who says most first, so that a bare answer finds the classes whole
    for meaning, keys, count in sorted(groups, key=lambda group: (-len(group[0].said), -group[2], group[1][0])):
        fitting = [one for one in classes if one.takes(meaning)]
        if not fitting:
            classes.append(_Class(list(keys), count, set(meaning.values), dict(meaning.said)))
            continue
        largest = min(fitting, key=lambda one: (-one.votes, one.keys[0]))
        largest.keys += keys
        largest.votes += count
        largest.values |= meaning.values
        largest.learn(meaning)
    return {key: one.keys[0] for one in classes for key in one.keys}
