"""Judging an answer against what is expected: what one side leaves out is no difference, what both say must agree.

Formulas are compared by algebra, which is slow: a ``Judge`` collects the pairs of formulas that it needs to know about,
somebody else compares them all at once, and it is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from operators.verify.reading.asks import Asks
from operators.verify.reading.clocks import same_clock
from operators.verify.reading.matching import any_of, every, one_to_one
from operators.verify.reading.rationals import agree, number_key
from operators.verify.reading.symbolic import Value
from operators.verify.reading.tree import Group, Leaf, LeafKind, Named, Reading
from operators.verify.reading.units import Unit
from operators.verify.reading.writing import text_key

Formula = tuple[LeafKind, str]
"""``formula`` or ``region``, and its text."""
Pair = tuple[Formula, Formula]
NUMBER = re.compile(r"-?\d+(?:/\d+)?")


@dataclass(frozen=True)
class Tolerance:
    """How far a problem lets a number be from the expected one."""

    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)

    def holds(self, gold: Fraction, value: Fraction) -> bool:
        return abs(value - gold) <= max(self.absolute, self.relative * abs(gold))


@dataclass
class Judge:
    """Compares readings.

    Attributes:
        values: what algebra made of each formula.
        same: which pairs of formulas (expected, answered) are the same, as far as that is known.
        wanted: the pairs that weren't known, after a comparison gave None.
    """

    values: dict[Formula, Value]
    rounding: int = 6
    same: dict[Pair, bool] = field(default_factory=dict[Pair, bool])
    wanted: set[Pair] = field(default_factory=set[Pair])

    def agree(self, gold: Reading, answer: Reading, asks: Asks, tolerance: Tolerance | None = None) -> bool | None:
        """Return whether an answer is right; None where ``wanted`` has to be known first."""
        return _Comparison(self, asks, tolerance).readings(gold, answer)

    def agree_all(
        self, golds: Sequence[Sequence[Reading]], answer: Reading, asks: Asks, tolerances: Sequence[Tolerance] = ()
    ) -> bool | None:
        """Return whether an answer gives all golds (each in one of several writings), each once, in any order.

        Args:
            tolerances: none, one for all golds, or one for each.
        """
        if isinstance(answer, Named):
            members = [value for _, value in answer.values]
            answer = members[0] if len(members) == 1 else Group("list", tuple(members))
        if isinstance(answer, Leaf) and answer.kind == "words":
            parts = [part for part in re.split(r"[,;]|\band\b", answer.text) if part.strip()]
            answer = Group("list", tuple(Leaf("words", part.strip()) for part in parts))
        given = answer.members if isinstance(answer, Group) and answer.kind in ("list", "set", "tuple") else (answer,)
        if len(given) != len(golds):
            return False
        each = [*tolerances] * len(golds) if len(tolerances) == 1 else [*tolerances] or [None] * len(golds)
        compares = [_Comparison(self, asks, tolerance).readings for tolerance in each]
        return one_to_one(
            [
                [any_of([compare(gold, one) for gold in writings]) for one in given]
                for writings, compare in zip(golds, compares, strict=True)
            ]
        )


@dataclass
class _Comparison:
    judge: Judge
    asks: Asks
    tolerance: Tolerance | None

    def readings(self, gold: Reading, answer: Reading) -> bool | None:
        match gold, answer:
            case Named(), Named():
                return self._names(gold, answer)
            case Named(), _:
                return self._unnamed(gold, answer, self.readings)
            case _, Named():
                return self._unnamed(answer, gold, lambda value, other: self.readings(other, value))
            case Group(), Group():
                return self._groups(gold, answer)
            case Leaf(), Leaf():
                return self._leaves(gold, answer)
            case Group(), Leaf():
                return self._group_and_leaf(gold, answer, self.readings)
            case Leaf(), Group():
                return self._group_and_leaf(answer, gold, lambda one, other: self.readings(other, one))
            case _:
                return False

    def _names(self, gold: Named, answer: Named) -> bool | None:
        """Names keep their values; two equations are compared as such."""
        ours, theirs = dict(gold.values), dict(answer.values)
        if len(ours) == 1 and len(theirs) == 1:
            [(one, value)], [(other, answered)] = ours.items(), theirs.items()
            if _same_name(one, other):
                return self.readings(value, answered)
            if gold.text and answer.text and (_has_letters(gold.text) or _has_letters(answer.text)):
                return self._formulas(("formula", gold.text), ("formula", answer.text))
            return False
        if ours.keys() != theirs.keys():
            ours = {name.casefold(): value for name, value in ours.items()}
            theirs = {name.casefold(): value for name, value in theirs.items()}
        if ours.keys() != theirs.keys():
            return False
        return every(self.readings(ours[name], theirs[name]) for name in ours)

    def _unnamed(self, named: Named, other: Reading, compare: Callable[[Reading, Reading], bool | None]) -> bool | None:
        """Compare values with names and what leaves the names out; ``compare`` keeps the sides."""
        if len(named.values) == 1:
            [(_, value)] = named.values
            if named.text and isinstance(other, Leaf) and "=" in other.text:
                return compare(Leaf("formula", named.text), other)  # an equation in another form
            return compare(value, other)
        members = tuple(value for _, value in named.values)  # by name, so in alphabetical order
        if isinstance(other, Group) and other.kind in ("tuple", "interval", "list") and other.brackets in ("", "()"):
            return len(other.members) == len(members) and every(map(compare, members, other.members))
        return False

    def _groups(self, gold: Group, answer: Group) -> bool | None:
        kinds = gold.kind, answer.kind
        if "ratio" in kinds:
            return kinds == ("ratio", "ratio") and self._ratios(gold, answer)
        if gold.kind == "list":
            members = answer.members if answer.kind != "set" else _distinct_as(answer.members, len(gold.members))
            return self.one_to_one(gold.members, members) if answer.kind != "interval" else False
        if gold.kind == "set":
            if answer.kind == "list":
                return self.one_to_one(_distinct(gold.members), answer.members)
            return answer.kind == "set" and self._sets(gold, answer)
        if answer.kind == "list":
            return gold.brackets in ("()", "[]") and gold.kind == "tuple" and self._in_order(gold, answer)
        if answer.kind == "set":
            return False
        if gold.kind == "tuple" and answer.kind == "tuple":
            return self._in_order(gold, answer)
        return gold.brackets == answer.brackets and self._in_order(gold, answer)

    def _in_order(self, gold: Group, answer: Group) -> bool | None:
        if len(gold.members) != len(answer.members):
            return False
        return every(map(self.readings, gold.members, answer.members))

    def _sets(self, gold: Group, answer: Group) -> bool | None:
        """Sets don't count how often a member is written."""
        there = every(any_of(self.readings(one, other) for other in answer.members) for one in gold.members)
        back = every(any_of(self.readings(one, other) for one in gold.members) for other in answer.members)
        return every([there, back])

    def _ratios(self, gold: Group, answer: Group) -> bool:
        ours, theirs = (
            [m.number for m in group.members if isinstance(m, Leaf) and m.number is not None]
            for group in (gold, answer)
        )
        if len(ours) != len(theirs) or not any(ours):
            return False
        return all(one * theirs[0] == other * ours[0] for one, other in zip(ours, theirs, strict=True)) and any(theirs)

    def _group_and_leaf(
        self, group: Group, leaf: Leaf, compare: Callable[[Reading, Reading], bool | None]
    ) -> bool | None:
        """Compare an interval with a relation, and one value in braces or alone in a list with that value."""
        if leaf.kind in ("region", "formula") and group.text and group.kind in ("tuple", "interval", "set"):
            if group.kind == "tuple" and self.asks.pair:
                return False
            if leaf.kind == "region" or group.kind == "interval":
                return compare(Leaf("region", group.text), replace(leaf, kind="region"))
            return False
        if len(group.members) == 1 and group.kind in ("list", "set"):
            return compare(group.members[0], leaf)
        return False

    def one_to_one(self, golds: Sequence[Reading], answers: Sequence[Reading]) -> bool | None:
        """Match each expected value with an answer of its own, in any order."""
        if len(golds) != len(answers):
            return False
        return one_to_one([[self.readings(gold, answer) for answer in answers] for gold in golds])

    def _leaves(self, gold: Leaf, answer: Leaf) -> bool | None:
        if gold == answer:
            return True
        if "clock" in (gold.kind, answer.kind):
            return same_clock(gold, answer, self.asks)
        if "text" in (gold.kind, answer.kind):
            return text_key(gold.text) == text_key(answer.text)
        if "words" in (gold.kind, answer.kind):
            return _plain_words(gold) == _plain_words(answer)
        if gold.base or answer.base:
            return self._numerals(gold, answer)
        if gold.digits(self.asks.bases) or answer.digits(self.asks.bases):
            return gold.digits(self.asks.bases) == answer.digits(self.asks.bases)
        if gold.variable and answer.variable and gold.variable != answer.variable:
            return False
        if gold.label and answer.label and not (gold.label <= answer.label or answer.label <= gold.label):
            return False
        if gold.unit and answer.label and not answer.unit and not gold.label and not answer.percent:
            return False
        if answer.unit and gold.label and not gold.unit and not answer.label and not gold.percent:
            return False
        if gold.percent or answer.percent or self.asks.percent:
            return self._percentages(gold, answer)
        if gold.unit and answer.unit:
            converted = _converted(answer, gold.unit, answer.unit)
            return converted is not None and self._values(gold, converted)
        return self._values(gold, answer)

    def _percentages(self, gold: Leaf, answer: Leaf) -> bool | None:
        """``n%`` is n/100. A bare n means it where that is asked or expected; a bare n/100 is then right too."""
        if (gold.unit and answer.percent) or (answer.unit and gold.percent):
            return False
        asked = self.asks.percent and not (gold.unit or answer.unit)
        if gold.percent or asked:
            if answer.percent:
                return self._values(gold, answer)
            return any_of([self._values(gold, answer), self._values(_hundredth(gold), answer)])
        return self._values(gold, _hundredth(answer) if answer.percent else answer)

    def _numerals(self, gold: Leaf, answer: Leaf) -> bool | None:
        if {gold.base, answer.base} <= {0, 10}:
            return self._values(gold, answer)
        if gold.base and answer.base:
            return gold.base == answer.base and gold.text == answer.text
        based, bare = (gold, answer) if gold.base else (answer, gold)
        if based.base not in self.asks.bases or bare.unit or bare.percent:
            return False
        digits = bare.text.replace(",", "").replace(" ", "").upper()
        return digits == based.text

    def _values(self, gold: Leaf, answer: Leaf) -> bool | None:
        """Compare values, whatever they carry."""
        if gold.number is not None and answer.number is not None:
            return self._numbers(gold.number, answer.number)
        return self._formulas(self._as_formula(gold), self._as_formula(answer))

    def _as_formula(self, leaf: Leaf) -> Formula:
        if leaf.number is None:
            return leaf.kind, leaf.text
        value = leaf.number
        text = str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        self.judge.values.setdefault(("formula", text), Value(number_key(value), as_float(value)))
        return "formula", text

    def _numbers(self, gold: Fraction, answer: Fraction) -> bool:
        if self.tolerance is not None and self.tolerance.holds(gold, answer):
            return True
        return agree(gold, answer, self.judge.rounding)

    def _formulas(self, gold: Formula, answer: Formula) -> bool | None:
        if gold == answer:
            return True
        known = self.judge.same.get((gold, answer))
        if known is not None:
            return known
        left, right = self.judge.values.get(gold), self.judge.values.get(answer)
        if left is not None and right is not None:
            if left.key == right.key:
                return True
            if not (left.readable and right.readable):
                return False
            first, second = _exactly(left), _exactly(right)
            if first is not None and second is not None and ((_rational(left) and _rational(right)) or self.tolerance):
                return self._numbers(first, second)
            if first is not None and second is not None and not _near(first, second):
                return False
            if (
                (first is None) != (second is None)
                and gold[0] == answer[0] == "formula"
                and _closed(left if first is None else right)
            ):
                return False
        self.judge.wanted.add((gold, answer))
        return None


def _distinct(members: Sequence[Reading]) -> list[Reading]:
    return list(dict.fromkeys(members))


def _distinct_as(members: Sequence[Reading], count: int) -> Sequence[Reading]:
    """Return a set's members as they are written if there are ``count`` of them, else each once."""
    return members if len(members) == count else _distinct(members)


def _same_name(one: str, other: str) -> bool:
    one, other = one.casefold(), other.casefold()
    return one == other or (min(len(one), len(other)) == 1 and one[:1] == other[:1] and " " not in one + other)


def _has_letters(text: str) -> bool:
    sides = text.rpartition("=")[2]
    return re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", sides)) is not None


def _plain_words(leaf: Leaf) -> str:
    text = re.sub(r"[\s()\"'.{}\\-]+", " ", leaf.text.casefold()).strip()
    text = text.removeprefix("the ").removeprefix("a ").removeprefix("an ")
    return re.sub(r"(?<!\d) | (?!\d)", "", text)  # between digits a blank says something


def _hundredth(leaf: Leaf) -> Leaf:
    if leaf.number is not None:
        return Leaf("number", leaf.text, leaf.number / 100)
    return Leaf(leaf.kind, rf"\frac{{{leaf.text}}}{{100}}")


def _converted(answer: Leaf, gold: Unit, own: Unit) -> Leaf | None:
    """Return an answer's value in the expected unit, None for units of another kind."""
    if {gold.name, own.name} == {"lb", "gbp"}:
        return answer  # both are written "pounds"
    if gold.powers != own.powers:
        return None
    factor = own.factor / gold.factor
    if factor == 1 and own.pi == gold.pi and own.offset == gold.offset:
        return answer
    if answer.number is not None and own.pi == gold.pi:
        value = (answer.number + own.offset) * factor - gold.offset
        return Leaf("number", answer.text, value)
    turn = {0: "1", 1: r"\pi", -1: r"\frac{1}{\pi}"}.get(own.pi - gold.pi, "1")
    return Leaf("formula", rf"({answer.text}) \cdot \frac{{{factor.numerator}}}{{{factor.denominator}}} \cdot {turn}")


def as_float(value: Fraction) -> float | None:
    """Return a number as a float, None beyond their range."""
    try:
        return float(value)
    except OverflowError:
        return None


def _rational(value: Value) -> bool:
    return NUMBER.fullmatch(value.key) is not None


def _exactly(value: Value) -> Fraction | None:
    """Return a formula's value: exactly where it is rational, else as closely as is known."""
    if _rational(value):
        return Fraction(value.key)
    return None if value.approximate is None else Fraction(value.approximate)


def _near(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= max(abs(one), abs(other)) / 100_000


def _closed(value: Value) -> bool:
    """Whether a formula without a real value has letters in it, so that no number equals it."""
    return value.approximate is None and re.search(r"(?<![A-Za-z])(?!I\b)[a-z]\w*(?![A-Za-z(])", value.key) is not None
