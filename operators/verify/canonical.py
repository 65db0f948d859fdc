"""Canonical answer keys: one string per answer, the same for every way of writing the same number.

``cheap_key`` handles what most answers are (integers, decimals, simple fractions, percentages, plain text) without a
computer algebra system; ``operators.verify.symbolic`` parses the rest. A key depends on its answer alone.
"""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction

LONGEST = 1000
"""Characters of the longest answer that is read as a number or parsed; what is longer is compared as text."""

_THOUSANDS = re.compile(r"(?<=\d)[, ](?=\d{3}(?!\d))")
_SPACES = re.compile(r"(?<!\d) | (?!\d)")
"""Those that aren't between two digits: "1 2" is no number."""
_MIXED = re.compile(r"([-+]?)(\d+) (\d+)/(\d+)")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")
_POWER = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))(?:[eE]|(?:\\times|\\cdot|\*|x)10(?:\^|\*\*))\{?([-+]?\d{1,3})\}?")
_RATIO = re.compile(r"([-+]?)(\d+)/(\d+)")
_LATEX_RATIO = re.compile(r"([-+]?)(\d*)\\frac(?:\{(-?\d+)\}\{(\d+)\}|(\d)(\d))")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"(.*?)\s*\b({'|'.join(_SCALES)})s?")
_BASED = re.compile(r"(\w+)_\{?(\d+)\}?")
_SPACING = re.compile(r"\\[,;: ]|~|\\left(?![a-z])|\\right(?![a-z])|\s+")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\N{DEGREE SIGN})")
_ASSIGNED = re.compile(r"[A-Za-z]\s*=\s*")
_UNITS = (
    "degree|deg|dollar|cent|euro|pound|unit|square unit|cubic unit|metre|meter|millimetre|millimeter|centimetre|"
    "centimeter|kilometre|kilometer|mile|inch|inches|foot|feet|yard|gram|kilogram|ounce|ton|litre|liter|gallon|second|"
    "minute|hour|day|week|month|year|mph|km/h|m/s|cm|mm|km|kg|mg|lbs|lb|oz|ml|ft|sec|min|hr|usd|people|person|student|"
    "child|children|man|men|woman|women|boy|girl|apple|book|ball|card|coin|page|point|time|way|square|cubic"
)
_UNIT = re.compile(rf"(?:\s*(?:{_UNITS})(?:e?s)?\b\.?)+(?:\s*\^\s*\{{?[23]\}}?)?", re.IGNORECASE)
_MEASURED = re.compile(r"([-+]?[\d.,/]*\d|[-+]?\d*\\frac\{-?\d+\}\{\d+\})\s*([A-Za-z].*)")


def normalise(answer: str) -> str:
    """Return an answer without what never carries meaning: spacing, sizes of fractions, dollar signs, degree signs."""
    text = answer.strip().replace("\N{MINUS SIGN}", "-").replace("\\$", "").replace("$", "").replace("\\%", "%")
    text = text.replace("\\!", "").replace("{,}", ",").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _SPACING.sub(" ", _TEXT.sub(r" \1 ", _DEGREES.sub("", text))).strip()
    return text[:-1].rstrip() if text.endswith(".") and not text[:-1].endswith(".") else text


def without_unit(text: str) -> str:
    """Return a normalised answer without the unit behind its number (5 cm, 9 dollars); others as they are."""
    measured = _MEASURED.fullmatch(text)
    return measured[1] if measured and _UNIT.fullmatch(measured[2]) else text


def read_number(answer: str) -> tuple[Fraction, bool] | None:
    """Return the exact value of a plain number, and whether it is given in per cent; None for anything else.

    ``1,000``, ``-0.5``, ``3/4``, ``\\frac{3}{4}``, ``1\\frac{1}{2}``, ``2 \\times 10^3``, ``5 cm``, ``x = 5``, ``50%``
    (which is 50, in per cent).
    """
    if len(answer) > LONGEST:
        return None
    text = normalise(answer)
    assigned = _ASSIGNED.match(text)
    text = without_unit(text[assigned.end() :] if assigned else text)
    scaled = _SCALED.fullmatch(text)
    if scaled:
        base = read_number(scaled[1]) if scaled[1] else None
        return None if base is None or base[1] else (base[0] * _SCALES[scaled[2]], False)
    mixed = _MIXED.fullmatch(text)
    if mixed:
        text = f"{mixed[1]}{mixed[2]}\\frac{{{mixed[3]}}}{{{mixed[4]}}}"
    text = _SPACES.sub("", _THOUSANDS.sub("", text))
    for sign in ("%", "percent"):
        if text.endswith(sign):
            value = _value(text.removesuffix(sign))
            return None if value is None else (value, True)
    value = _value(text)
    return None if value is None else (value, False)


def _value(text: str) -> Fraction | None:
    if _NUMBER.fullmatch(text):
        return Fraction(text)
    power = _POWER.fullmatch(text)
    if power:
        return Fraction(power[1]) * Fraction(10) ** int(power[2])
    ratio = _RATIO.fullmatch(text)
    if ratio:
        sign, whole, above, below = ratio[1], "", ratio[2], ratio[3]
    else:
        latex = _LATEX_RATIO.fullmatch(text)
        if not latex:
            return None
        sign, whole, above, below = latex[1], latex[2], latex[3] or latex[5], latex[4] or latex[6]
    if int(below) == 0:
        return None
    value = Fraction(int(above), int(below))
    if whole:  # a mixed number; 3\frac{5}{4} is none
        if not 0 < value < 1:
            return None
        value += int(whole)
    return -value if sign == "-" else value


def meanings(number: tuple[Fraction, bool]) -> tuple[Fraction, ...]:
    """Return what a number may mean: 50% is a half, and the number of per cent; 0.5% isn't a half."""
    value, percent = number
    if not percent:
        return (value,)
    return (value / 100, value) if abs(value) >= 1 else (value / 100,)


def number_key(value: Fraction) -> str:
    """Return ``7``, ``-3/4``: the canonical text of a rational number."""
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def cheap_key(answer: str) -> str | None:
    """Return the key of a plain number or of plain words; None where only a parser can tell.

    A number in per cent keeps its sign: ``50%`` is judged as what it may mean, and votes with it (operators.select).
    """
    number = read_number(answer)
    if number is not None:
        return f"{number_key(number[0])}%" if number[1] else number_key(number[0])
    if len(answer) > LONGEST:
        return text_key(answer)
    text = normalise(answer)
    based = _BASED.fullmatch(text)
    if based and based[1][0].isdigit():  # a numeral with its base is no plain number: 10_2 is not 10_3
        return f"{based[1]}_{based[2]}".casefold()
    choice = _CHOICE.fullmatch(text)
    if choice:
        return choice[1].casefold()
    return text.casefold() if _WORDS.fullmatch(text) else None


_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*|[A-Z]")
_CHOICE = re.compile(r"\(([A-Z])\)")


def text_key(answer: str) -> str:
    """Return the key of an answer that is only text: normalised, in one case, without spaces.

    Of a very long one only the beginning and a hash: a key is kept for each sample.
    """
    if len(answer) > LONGEST:
        return (
            f"{answer[:40].casefold()}...{hashlib.blake2b(answer.encode(errors='replace'), digest_size=12).hexdigest()}"
        )
    return normalise(answer).casefold().replace(" ", "")
