"""Rational numbers: their canonical text, and when two of them are one."""

from __future__ import annotations

from fractions import Fraction


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
