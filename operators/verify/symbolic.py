"""Answers that only a computer algebra system can read: math-verify's parser and comparison, SymPy's canonical forms.

Everything here may take arbitrarily long on what models write, so it runs in worker processes that can be killed.
"""

# SymPy and math-verify are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from operators.verify.canonical import LONGEST, number_key, text_key


@cache
def _parser() -> Any:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeouts are off: ours are on
    configs = [LatexExtractionConfig(try_extract_without_anchor=True), ExprExtractionConfig()]

    def run(text: str) -> list[Any]:
        return parse(text, extraction_config=configs, parsing_timeout=None)

    return run


@lru_cache(maxsize=64)
def parse_answer(answer: str) -> list[Any]:
    """Return math-verify's readings of an answer (SymPy expressions, then the text); empty where it finds none."""
    text = answer.strip()
    wrapped = text if "$" in text or "\\boxed" in text else f"${text}$"
    return _parser()(wrapped) or _parser()(text)


def symbolic_key(answer: str) -> tuple[str, float | None]:
    """Return the key of an answer that needs parsing, and its approximate value where it is a real number.

    The key is a number where the answer evaluates to a rational one, else SymPy's own text. Slow, and may hang on what
    models write: call it in a worker process.
    """
    import sympy

    readings = [found for found in parse_answer(answer) if not isinstance(found, str)]
    if not readings:
        return text_key(answer), None
    value = _reduced(readings[0])
    if isinstance(value, sympy.Rational):
        return number_key(Fraction(int(value.p), int(value.q))), _approximate(value)
    key = str(value)
    # a key is kept for each sample
    return (key if len(key) <= LONGEST else text_key(answer)), _approximate(value)


def _approximate(value: Any) -> float | None:
    import sympy

    if not (isinstance(value, sympy.Expr) and value.is_number and value.is_real and value.is_finite):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _reduced(value: Any) -> Any:
    """Return an expression, or a collection of some, in one form: expanded, simplified where it is a number."""
    import sympy

    if isinstance(value, sympy.Eq) and value.lhs.is_Symbol:
        return _reduced(value.rhs)  # "x = 5" answers with 5
    if isinstance(value, sympy.Float):
        exact = Fraction(str(value)).limit_denominator(10**12)
        return sympy.Rational(exact.numerator, exact.denominator)
    if isinstance(value, sympy.MatrixBase):
        return value.applyfunc(_reduced)
    if isinstance(value, sympy.StrictGreaterThan | sympy.GreaterThan):
        value = value.reversed
    if isinstance(value, sympy.Tuple | sympy.FiniteSet | sympy.Interval | sympy.Union | sympy.Rel):
        return value.func(*map(_reduced, value.args))
    if not isinstance(value, sympy.Expr):
        return value
    value = sympy.nsimplify(value, rational=True) if value.has(sympy.Float) else value
    value = sympy.expand(value)
    if not value.is_number or value.is_Atom:
        return value
    # roots are brought to one form by what is fast; logarithms and the like need more
    return sympy.simplify(value) if value.atoms(sympy.Function) else sympy.radsimp(value)


def equivalent(gold: str, answer: str, float_rounding: int) -> bool:
    """Return math-verify's judgement of ``answer`` against ``gold``. Slow; call it in a worker process."""
    from math_verify import verify

    readings, expected = parse_answer(answer), parse_answer(gold)
    if not readings or not expected:
        return text_key(gold) == text_key(answer)
    return bool(verify(expected, readings, float_rounding=float_rounding, timeout_seconds=None))
