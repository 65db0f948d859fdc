"""Canonical texts of answers: of numbers, of words, and of whatever can't be read, the same for every way of writing.

What more an answer may say (units, lists, formulas) is the business of ``operators.verify.reading``.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction

from operators.verify.reading.reader import LONGEST, read
from operators.verify.reading.tree import Leaf, Named
from operators.verify.reading.writing import SAID, tidy


def number_key(value: Fraction) -> str:
    """Return ``7``, ``-3/4``: the canonical text of a rational number."""
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def agree(left: Fraction, right: Fraction, rounding: int = 6) -> bool:
    """Return whether two numbers are one: whole ones the same, others as far as they are written.

    Inexact numbers agree to ``rounding`` decimals and to as many significant digits: 1/3 is 0.333333, 3e-9 isn't 5e-9.
    """
    if left == right:
        return True
    if left.denominator == 1 or right.denominator == 1:
        return False
    return round(left, rounding) == round(right, rounding) and significant(left, rounding) == significant(
        right, rounding
    )


def significant(value: Fraction, digits: int) -> Fraction:
    """Return a number rounded to so many significant digits."""
    if not value:
        return value
    exponent = len(str(abs(value.numerator))) - len(str(value.denominator))
    if abs(value) < Fraction(10) ** exponent:
        exponent -= 1
    unit = Fraction(10) ** (exponent + 1 - digits)
    return round(value / unit) * unit


def cheap_key(answer: str) -> str | None:
    """Return the key of a plain number (without its unit or name) or of words; None where only algebra can tell."""
    reading = read(answer)
    if isinstance(reading, Named) and len(reading.values) == 1:
        [(_, reading)] = reading.values  # "x = 7" answers with 7
    if not isinstance(reading, Leaf):
        return None
    if reading.base not in (0, 10):
        return f"{reading.text}_{reading.base}".casefold()
    if reading.kind == "number" and reading.number is not None:
        return number_key(reading.number) + ("%" if reading.percent else "")
    if reading.kind == "words":
        return text_key(answer) if len(answer) > LONGEST else reading.text.casefold()
    return None


def text_key(answer: str) -> str:
    """Return the key of an answer that is only text: in one spelling and case, without spaces.

    Of a very long one only the beginning and a hash: a key is kept for each sample.
    """
    if len(answer) > LONGEST:
        return (
            f"{answer[:40].casefold()}...{hashlib.blake2b(answer.encode(errors='replace'), digest_size=12).hexdigest()}"
        )
    return tidy(answer).replace(SAID, "").casefold().replace(" ", "")
