"""Answers that only a computer algebra system can read: math-verify's parser and comparison, SymPy's canonical forms.

Everything here may take arbitrarily long on what models write, so it runs in worker processes that can be killed.
"""

# SymPy and math-verify are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
from fractions import Fraction
from functools import cache
from typing import Any

from operators.verify.canonical import number_key, text_key


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
