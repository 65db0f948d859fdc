"""Canonical answer keys: one string per answer, the same for every way of writing the same number.

``cheap_key`` handles what most answers are (integers, decimals, simple fractions, percentages, plain text) without a
computer algebra system; ``operators.verify.symbolic`` parses the rest. A key depends on its answer alone.
"""

from __future__ import annotations

import re
from fractions import Fraction

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")
_RATIO = re.compile(r"([-+]?)(\d+)/(\d+)")
_LATEX_RATIO = re.compile(r"([-+]?)\\[dt]?frac(?:\{(-?\d+)\}\{(\d+)\}|(\d)(\d))")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"(.*?)\s*\b({'|'.join(_SCALES)})s?")
_BASED = re.compile(r"(\w+)_\{?(\d+)\}?")
_SPACING = re.compile(r"\\[,!;: ]|~|\\left|\\right|\s+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")


def normalise(answer: str) -> str:
    """Return an answer without what never carries meaning: spacing commands, dollar signs, a trailing full stop."""
    text = answer.strip().replace("\N{MINUS SIGN}", "-").replace("\\$", "").replace("$", "").replace("\\%", "%")
    text = _SPACING.sub(" ", _TEXT.sub(r" \1 ", text)).strip()
    return text[:-1].rstrip() if text.endswith(".") and not text[:-1].endswith(".") else text


def as_number(answer: str) -> Fraction | None:
    """Return the exact value of a plain number (``1,000``, ``-0.5``, ``3/4``, ``\\frac{3}{4}``, ``50%``), else None.

    A percentage is its number of per cent: 50% and 50 are the same answer, as in the usual graders.
    """
    text = normalise(answer)
    scaled = _SCALED.fullmatch(text)
    if scaled:
        base = as_number(scaled[1]) if scaled[1] else None
        return None if base is None else base * _SCALES[scaled[2]]
    text = _THOUSANDS.sub("", text).replace(" ", "").removesuffix("%")
    if _NUMBER.fullmatch(text):
        return Fraction(text)
    ratio = _RATIO.fullmatch(text)
    if ratio:
        sign, above, below = ratio.groups()
    else:
        latex = _LATEX_RATIO.fullmatch(text)
        if not latex:
            return None
        sign, above, below = latex[1], latex[2] or latex[4], latex[3] or latex[5]
    if int(below) == 0:
        return None
    return Fraction(int(above), int(below)) * (-1 if sign == "-" else 1)


def number_key(value: Fraction) -> str:
    """Return ``7``, ``-3/4``: the canonical text of a rational number."""
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def cheap_key(answer: str) -> str | None:
    """Return the key of a plain number or of plain words; None where only a parser can tell."""
    value = as_number(answer)
    if value is not None:
        return number_key(value)
    text = normalise(answer)
    based = _BASED.fullmatch(text)
    if based and based[1][0].isdigit():  # a numeral with its base is no plain number: 10_2 is not 10_3
        return f"{based[1]}_{based[2]}".casefold()
    return text.casefold() if re.fullmatch(r"[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*|[A-Z]", text) else None


def text_key(answer: str) -> str:
    """Return the key of an answer that is only text: normalised, in one case, without spaces."""
    return normalise(answer).casefold().replace(" ", "")
