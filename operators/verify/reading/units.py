"""Units behind numbers (and currencies before them): which there are, and how those of one kind are converted.

A unit is a product of powers of base units with a factor: 12 cm is 12 times 1/100 of m. Units of one kind have equal
powers. What isn't known here is no unit but a label: a noun that says what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

F = Fraction
ONE, NOTHING = F(1), F(0)


@dataclass(frozen=True)
class Unit:
    """A unit of measurement: ``name`` in canonical writing, its kind as powers of base units, and how it converts."""

    name: str
    powers: tuple[tuple[str, int], ...]
    factor: Fraction = ONE
    offset: Fraction = NOTHING
    """What is added before the factor counts: temperatures."""
    pi: int = 0
    """Power of pi in the factor."""


_SI = {"k": F(1000), "": F(1), "d": F(1, 10), "c": F(1, 100), "m": F(1, 1000), "µ": F(1, 10**6), "n": F(1, 10**9),
       "M": F(10**6), "G": F(10**9), "T": F(10**12)}  # fmt: skip
_SPELLED = {"kilo": "k", "centi": "c", "milli": "m", "deci": "d", "micro": "µ", "nano": "n", "mega": "M", "giga": "G"}
_SCALABLE = [
    # symbol, base unit, factor, prefixes, words
    ("m", "m", F(1), "kdcmµn", "meter metre"),
    ("g", "g", F(1), "kmµ", "gram gramme"),
    ("s", "s", F(1), "mµn", "second sec"),
    ("L", "m^3", F(1, 1000), "dcm", "liter litre"),
    ("J", "J", F(1), "kM", "joule"),
    ("W", "W", F(1), "kMG", "watt"),
    ("N", "N", F(1), "k", "newton"),
    ("V", "V", F(1), "km", "volt"),
    ("A", "A", F(1), "m", "ampere amp"),
    ("Pa", "Pa", F(1), "kM", "pascal"),
    ("Hz", "Hz", F(1), "kMG", "hertz"),
    ("mol", "mol", F(1), "m", "mole"),
    ("cal", "cal", F(1), "k", "calorie"),
    ("B", "B", F(1), "kMGT", "byte"),
]
_FIXED = [
    # name, kind, factor, other writings
    ("in", "m", F(254, 10**4), "inch inches"),
    ("ft", "m", F(3048, 10**4), "foot feet"),
    ("yd", "m", F(9144, 10**4), "yard yds"),
    ("mi", "m", F(1609344, 1000), "mile"),
    ("hectare", "m^2", F(10**4), "ha"),
    ("acre", "m^2", F(40468564224, 10**7), ""),
    ("gallon", "m^3", F(3785411784, 10**12), "gal"),
    ("quart", "m^3", F(3785411784, 4 * 10**12), "qt"),
    ("pint", "m^3", F(3785411784, 8 * 10**12), "pt"),
    ("cup", "m^3", F(3785411784, 16 * 10**12), ""),
    ("tablespoon", "m^3", F(3785411784, 256 * 10**12), "tbsp"),
    ("teaspoon", "m^3", F(3785411784, 768 * 10**12), "tsp"),
    ("cc", "m^3", F(1, 10**6), ""),
    ("tonne", "g", F(10**6), ""),
    ("lb", "g", F(45359237, 10**5), "lbs pound"),
    ("oz", "g", F(45359237, 16 * 10**5), "ounce"),
    ("ton", "ton", F(1), ""),
    ("min", "s", F(60), "minute mins"),
    ("h", "s", F(3600), "hour hr hrs"),
    ("day", "s", F(86400), ""),
    ("week", "s", F(7 * 86400), "wk"),
    ("month", "month", F(1), ""),
    ("year", "month", F(12), "yr yrs"),
    ("decade", "month", F(120), ""),
    ("century", "month", F(1200), "centuries"),
    ("mph", "m s^-1", F(1609344, 3600 * 1000), ""),
    ("kph", "m s^-1", F(1000, 3600), "kmh kmph"),
    ("knot", "m s^-1", F(1852, 3600), ""),
    ("kWh", "J", F(3600000), "kwh"),
    ("ohm", "ohm", F(1), "Ω"),
    ("bit", "B", F(1, 8), ""),
    ("dollar", "usd", F(1), "usd buck"),
    ("cent", "usd", F(1, 100), "¢ penny pennies"),
    ("euro", "eur", F(1), "€ eur"),
    ("gbp", "gbp", F(1), "£ sterling"),
    ("pence", "gbp", F(1, 100), ""),
    ("yen", "jpy", F(1), "¥ jpy"),
    ("rupee", "inr", F(1), "₹ rs inr"),
    ("yuan", "cny", F(1), "rmb cny"),
    ("peso", "mxn", F(1), ""),
    ("franc", "chf", F(1), "chf"),
    ("won", "krw", F(1), "₩"),
]
_CURRENCY = re.compile(r"(?:\\dollar|€|£|¥|₹|₩|(?:USD|EUR|GBP|Rs)\b\.?)\s*")
_SIGN_NAMES = {"\\dollar": "dollar", "Rs.": "rs", "Rs": "rs"}
_ANGLES = {"deg": ("degree", F(1), 0), "rad": ("radian", F(180), -1)}
_HEATS = {
    "°C": (F(1), F(0), "celsius centigrade"),
    "°F": (F(5, 9), F(-32), "fahrenheit"),
    "K": (F(1), F(-27315, 100), "kelvin"),
}


@cache
def _table() -> dict[str, Unit]:
    """Return every unit by its writings."""
    table: dict[str, Unit] = {}

    def add(name: str, kind: str, factor: Fraction, words: str, **more: Fraction | int) -> None:
        powers: list[tuple[str, int]] = []
        for part in kind.split():
            base, _, power = part.partition("^")
            powers.append((base, int(power or 1)))
        unit = Unit(name, tuple(sorted(powers)), factor, **more)  # pyright: ignore[reportArgumentType]
        for word in (name, *words.split()):
            table[word] = unit
            if len(word) > 2 and word.isalpha():
                table.setdefault(f"{word}s", unit)

    for symbol, kind, factor, prefixes, words in _SCALABLE:
        add(symbol, kind, factor, words)
        for prefix in prefixes:
            spelled = next((long for long, short in _SPELLED.items() if short == prefix), "")
            longs = " ".join(f"{spelled}{word}" for word in words.split()) if spelled else ""
            add(f"{prefix}{symbol}", kind, factor * _SI[prefix], longs)
    for name, kind, factor, words in _FIXED:
        add(name, kind, factor, words)
    for name, (word, factor, pi) in _ANGLES.items():
        add(name, "angle", factor, word, pi=pi)
    for name, (factor, offset, words) in _HEATS.items():
        add(name, "heat", factor, words, offset=offset)
    also = {"ml": "mL", "dl": "dL", "l": "L", "KB": "kB", "KG": "kg", "kilo": "kg", "kilos": "kg", "um": "µm",
            "μm": "µm", "hz": "Hz", "secs": "s"}  # fmt: skip
    return table | {writing: table[name] for writing, name in also.items()}


_AMBIGUOUS = frozenset({"in", "won", "rs", "A", "B", "T", "bit", "bits", "kilo", "also"})
_NO_UNIT = re.compile(
    r"(?:(?:square|cubic|sq\.?|cu\.?)\s+)?units?(?:\s*\^\s*\{?[23]\}?)?(?:\s+squared|\s+cubed)?(?![A-Za-z])"
)
_HEAT = re.compile(
    r"(?i:(?:degrees?|deg\.?)\s+)(celsius|fahrenheit|centigrade|C(?![A-Za-z])|F(?![A-Za-z]))", re.IGNORECASE
)
_POWER = r"(?:\s*\^\s*\{?\s*(-?[1-9])\s*\}?|\s+(squared|cubed)(?![a-z]))?"
_FACTOR = re.compile(
    rf"(?:(square|cubic|sq\.?|cu\.?)\s*)?"
    rf"(\^\\circ\s*[CFK]?|[A-Za-z\u00b5\u03bc€£¥₹₩¢]+)\.?{_POWER}"
)
_BETWEEN = re.compile(r"\s*(?:\\cdot|\*|-)\s*|\s+(?=[A-Za-z])")
_PER = re.compile(r"\s*/\s*|\s+per\s+|\s+an?\s+(?=hour|minute|second|day|week|month|year)")


def currency_before(text: str) -> tuple[Unit | None, str]:
    """Return the currency that a text begins with, and the rest."""
    found = _CURRENCY.match(text)
    if not found:
        return None, text
    sign = found[0].strip()
    return lookup(_SIGN_NAMES.get(sign, sign.rstrip("."))), text[found.end() :]


def lookup(word: str) -> Unit | None:
    """Return the unit that a word or symbol means."""
    table = _table()
    word = re.sub(r"\\circ\s*", "", word).replace("^", "°") if word.startswith("^") else word
    if word == "°":
        return table["deg"]
    return table.get(word) or (table.get(word.lower()) if len(word) > 1 else None)


def writings() -> list[str]:
    """Return the letters with which units are written and that mean nothing else behind a number, the longest first."""
    return sorted((word for word in _table() if word.isalpha() and word not in _AMBIGUOUS), key=len, reverse=True)


@lru_cache(maxsize=4096)
def unit_at(text: str) -> tuple[Unit | None, str]:
    """Return the unit that a text begins with, and the rest; ``units`` and ``square units`` are none at all."""
    text = _HEAT.sub(lambda found: f"^\\circ {'F' if found[1][0] in 'fF' else 'C'}", text.strip())
    nothing = _NO_UNIT.match(text)
    if nothing:
        return None, text[nothing.end() :].strip()
    found = list(_factors(text))
    if not found:
        return None, text
    powers: dict[str, int] = {}
    factor, offset, pi, names = F(1), F(0), 0, list[str]()
    for unit, power, _ in found:
        for base, times in unit.powers:
            powers[base] = powers.get(base, 0) + times * power
        factor *= unit.factor**power
        offset, pi = unit.offset, pi + unit.pi * power
        names.append(unit.name if power == 1 else f"{unit.name}^{power}")
    known = tuple(sorted((base, times) for base, times in powers.items() if times))
    return Unit(" ".join(names), known, factor, offset, pi), text[found[-1][2] :].strip()


def _factors(text: str) -> Iterator[tuple[Unit, int, int]]:
    """Yield (unit, power, end) of the factors of a compound unit."""
    at, sign, every = 0, 1, 0
    while found := _FACTOR.match(text, at):
        word = found[2]
        unit = lookup(word)
        if unit is None:
            return
        spelled = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
        power = spelled.get((found[1] or found[4] or "").rstrip("."), int(found[3] or 1))
        yield unit, sign * power, found.end()
        every += 1
        at = found.end()
        per = _PER.match(text, at)
        between = per or _BETWEEN.match(text, at)
        if between is None:
            return
        sign = -1 if per else sign
        at = between.end()
