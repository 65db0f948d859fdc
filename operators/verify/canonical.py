"""Canonical answer keys: one string per answer, the same for every way of writing the same number.

``cheap_key`` handles what most answers are (integers, decimals, simple fractions, percentages, plain text) without a
computer algebra system. ``symbolic_key`` parses the rest with math-verify; it may take arbitrarily long, so it runs in
worker processes. A key depends on its answer alone.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import cache
from typing import Any

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")
_RATIO = re.compile(r"([-+]?)(\d+)/(\d+)")
_LATEX_RATIO = re.compile(r"([-+]?)\\[dt]?frac(?:\{(-?\d+)\}\{(\d+)\}|(\d)(\d))")
_SPACING = re.compile(r"\\[,!;: ]|~|\\left|\\right|\s+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")


def normalise(answer: str) -> str:
    """Return an answer without what never carries meaning: spacing commands, dollar signs, a trailing full stop."""
    text = answer.strip().replace("−", "-").replace("\\$", "").replace("$", "").replace("\\%", "%")
    text = _SPACING.sub(" ", _TEXT.sub(r" \1 ", text)).strip()
    return text[:-1].rstrip() if text.endswith(".") and not text[:-1].endswith(".") else text


def as_number(answer: str) -> Fraction | None:
    """Return the exact value of a plain number (``1,000``, ``-0.5``, ``3/4``, ``\\frac{3}{4}``, ``50%``), else None.

    A percentage is its number of per cent: 50% and 50 are the same answer, as in the usual graders.
    """
    text = _THOUSANDS.sub("", normalise(answer)).replace(" ", "").removesuffix("%")
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
    return text.casefold() if re.fullmatch(r"[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*|[A-Z]", text) else None


def text_key(answer: str) -> str:
    """Return the key of an answer that is only text: normalised, in one case, without spaces."""
    return normalise(answer).casefold().replace(" ", "")


@cache
def _parser() -> Any:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeouts are off: ours are on
    configs = [LatexExtractionConfig(try_extract_without_anchor=True), ExprExtractionConfig()]

    def run(text: str) -> list[Any]:
        return parse(text, extraction_config=configs, parsing_timeout=None)

    return run


def parse_answer(answer: str) -> list[Any]:
    """Return math-verify's readings of an answer (SymPy expressions, then the text); empty where it finds none."""
    text = answer.strip()
    wrapped = text if "$" in text or "\\boxed" in text else f"${text}$"
    return _parser()(wrapped) or _parser()(text)


def symbolic_key(answer: str) -> str:
    """Return the key of an answer that needs parsing: a number where it evaluates to one, else SymPy's own text.

    Slow, and may hang on what models write: call it in a worker process.
    """
    import sympy

    readings = [found for found in parse_answer(answer) if not isinstance(found, str)]
    if not readings:
        return text_key(answer)
    value = readings[0]
    if isinstance(value, sympy.Rational):
        return number_key(Fraction(int(value.p), int(value.q)))
    if isinstance(value, sympy.Float):
        return number_key(Fraction(str(value)).limit_denominator(10**12))
    if isinstance(value, sympy.Expr):
        value = sympy.nsimplify(value, rational=True) if value.is_number and value.has(sympy.Float) else value
        value = sympy.simplify(value) if value.is_number else sympy.expand(value)
        if isinstance(value, sympy.Rational):
            return number_key(Fraction(int(value.p), int(value.q)))
    return str(value)


def equivalent(gold: str, answer: str, float_rounding: int) -> bool:
    """Return math-verify's judgement of ``answer`` against ``gold``. Slow; call it in a worker process."""
    from math_verify import verify

    readings, expected = parse_answer(answer), parse_answer(gold)
    if not readings or not expected:
        return text_key(gold) == text_key(answer)
    return bool(verify(expected, readings, float_rounding=float_rounding, timeout_seconds=None))
