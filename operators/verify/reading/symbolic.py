"""Formulas: math-verify's parser behind a check that nothing is left over, SymPy's canonical forms, and comparison.

Where math-verify is at fault it is repaired around: a formula is handed to its LaTeX parser whole, and what the parser
doesn't take to its last sign is no formula (its own extraction drops what it doesn't know and judges the rest). Numbers
are compared by their values to fifty digits, so that small ones differ (it chops differences to zero).

Everything here may take arbitrarily long on what models write, so it runs in worker processes that can be killed.
"""

# SymPy and math-verify are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportMissingTypeStubs=false
# pyright: reportAttributeAccessIssue=false, reportPrivateUsage=false

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from operators.verify.reading.rationals import agree, number_key
from operators.verify.reading.writing import LONGEST, text_key

DIGITS = 50
"""To how many digits numbers are evaluated."""
_TRIG = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\\circ")


@dataclass(frozen=True)
class Value:
    """What algebra makes of a formula: a canonical key, and its approximate value where it is a real number."""

    key: str
    approximate: float | None = None
    readable: bool = True


@cache
def _tools() -> Any:
    from antlr4 import Token
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, _Latex2Sympy, normalize_latex
    from math_verify.grader import should_treat_as_complex

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeouts are off: ours are on
    config = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")

    class Whole(_Latex2Sympy):
        """The parser, with a way to tell whether it took all of the text."""

        def create_parser(self, latex_str: str) -> Any:
            self.made = super().create_parser(latex_str)
            return self.made

        def at_end(self) -> bool:
            token: Any = self.made.getCurrentToken()
            return token.type == Token.EOF

    def run(text: str) -> Any:
        parser = Whole(is_real=not should_treat_as_complex(text))
        found = parser.parse(normalize_latex(text, config))
        if not parser.at_end():
            raise ValueError("something is left over")
        return found

    return run


@lru_cache(maxsize=256)
def parse(text: str) -> Any:
    """Return the SymPy expression of a whole formula, None where it can't be read to its end."""
    text = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})" if _TRIG.search(text) else r"\1", text)
    try:
        found = _tools()(text)
    except RecursionError:
        return None
    except Exception:  # the parser raises bare exceptions on what it can't read
        return None
    return _with_imaginary_unit(found)


def _with_imaginary_unit(value: Any) -> Any:
    """Read ``i`` as the imaginary unit where it is the only letter: ``6 - 5i``, ``i^2``."""
    import sympy

    if isinstance(value, sympy.Expr | sympy.MatrixBase):
        symbols = {str(symbol): symbol for symbol in value.free_symbols}
        if set(symbols) == {"i"}:
            return value.subs(symbols["i"], sympy.I)
    return value


def formula_value(text: str) -> Value:
    """Return what a formula comes to. Slow, and may hang on what models write: call it in a worker process."""
    import sympy

    parsed = parse(text)
    if parsed is None:
        return Value(text_key(text), readable=False)
    value = _reduced(parsed)
    if value in (sympy.zoo, sympy.nan):
        return Value(text_key(text), readable=False)  # something was divided by zero
    if isinstance(value, sympy.Rational):
        return Value(number_key(Fraction(int(value.p), int(value.q))), _approximate(value))
    key = str(value)
    # a key is kept for each sample
    return Value(key if len(key) <= LONGEST else text_key(text), _approximate(value))


def _approximate(value: Any) -> float | None:
    import sympy

    if not (isinstance(value, sympy.Expr) and value.is_number):
        return None
    try:
        found = complex(value.evalf(20))
    except (TypeError, ValueError, OverflowError):
        return None
    if found.imag or found.real in (float("inf"), float("-inf")) or found.real != found.real:
        return None
    return found.real


def _reduced(value: Any) -> Any:
    """Return an expression, or a collection of some, in one form: expanded, simplified where it is a number."""
    import sympy

    if isinstance(value, sympy.Float):
        return sympy.Rational(str(value))
    if isinstance(value, sympy.MatrixBase):
        return value.applyfunc(_reduced)
    if isinstance(value, sympy.StrictGreaterThan | sympy.GreaterThan):
        value = value.reversed
    if isinstance(value, sympy.Tuple | sympy.FiniteSet | sympy.Interval | sympy.Union | sympy.Rel):
        return value.func(*map(_reduced, value.args))
    if not isinstance(value, sympy.Expr):
        return value
    value = _exact(value).doit()
    value = sympy.expand(value)
    if not value.is_number or value.is_Atom:
        return value
    # roots are brought to one form by what is fast; logarithms and the like need more
    return sympy.simplify(value) if value.atoms(sympy.Function) else sympy.radsimp(value)


def _exact(value: Any) -> Any:
    """Return an expression with the decimals in it as fractions."""
    import sympy

    return value.xreplace({number: sympy.Rational(str(number)) for number in value.atoms(sympy.Float)})


def formulas_agree(gold: str, text: str, rounding: int) -> bool:
    """Return whether two formulas come to the same. Slow; call it in a worker process."""
    import sympy
    from math_verify.grader import sympy_expr_eq

    left, right = parse(gold), parse(text)
    if left is None or right is None:
        return text_key(gold) == text_key(text)
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr) and left.is_number and right.is_number:
        return numbers_agree(_exact(left), _exact(right), rounding)
    if isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase):
        return left.shape == right.shape and all(
            numbers_agree(_exact(one), _exact(other), rounding)
            if one.is_number and other.is_number
            else _same_expression(_exact(one), _exact(other))
            for one, other in zip(left, right, strict=True)
        )
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return _same_expression(_exact(left), _exact(right))
    try:
        return bool(sympy_expr_eq(left, right, rounding, 15))
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return False


def _same_expression(left: Any, right: Any) -> bool:
    """Return whether two expressions with letters are one; exactly, where math-verify chops small factors to zero."""
    import sympy

    difference = sympy.expand((left - right).doit())
    if difference == 0:
        return True
    if difference.is_polynomial(*difference.free_symbols):
        return False
    return bool(sympy.simplify(difference) == 0)


def numbers_agree(left: Any, right: Any, rounding: int) -> bool:
    """Return whether two numbers are the same, or agree as far as inexact ones have to."""
    import sympy

    one, other = left.doit().evalf(DIGITS), right.doit().evalf(DIGITS)
    if not (one.is_finite and other.is_finite):
        return one == other
    scale = max(abs(sympy.re(one)) + abs(sympy.im(one)), abs(sympy.re(other)) + abs(sympy.im(other)))
    difference = sympy.Abs(one - other)
    if scale == 0 or difference < scale * sympy.Float(10) ** (10 - DIGITS):
        return True
    if not (one.is_real and other.is_real) or left.is_Integer or right.is_Integer:
        return False
    if not (left.is_Rational or right.is_Rational):
        return False  # both are exact
    return agree(Fraction(str(one)), Fraction(str(other)), rounding)
