"""Sets of numbers: intervals, unions of them, and the relations that mean the same (``x < 1 or x > 2``).

As slow as algebra is: call these functions in a worker process.
"""

# SymPy is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportMissingTypeStubs=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from operators.verify.reading.symbolic import Value, formula_value, formulas_agree, numbers_agree, parse
from operators.verify.reading.writing import text_key

_OR = re.compile(r"\s*,?\s+(?:or)\s+|\\(?:vee|lor)(?![a-z])")
_AND = re.compile(r"\s*,?\s+(?:and)\s+|,(?![^(\[]*[)\]])|;|\\(?:wedge|land)(?![a-z])|\s+with\s+")


@lru_cache(maxsize=256)
def region(text: str) -> Any:
    """Return the set of real numbers that a text describes as a SymPy set; None where it describes none."""
    import sympy

    either = [part for part in _OR.split(text) if part.strip()]
    if len(either) > 1:
        return _joined([region(part) for part in either], sympy.Union)
    both = [part for part in _AND.split(text) if part.strip()]
    if len(both) > 1 and not text.strip().startswith(("(", "[")):
        sets = [region(part) for part in both]
        apart = _joined(sets, sympy.Intersection)
        # "x < 1, x > 2" lists what the solutions are, and no number is both
        return _joined(sets, sympy.Union) if apart == sympy.EmptySet else apart
    found = parse(text.strip())
    try:
        return _as_set(found)
    except (TypeError, ValueError, NotImplementedError, AttributeError):
        return None


def _joined(sets: list[Any], how: Any) -> Any:
    return None if any(one is None for one in sets) else how(*sets)


def _as_set(found: Any) -> Any:
    import sympy
    from latex2sympy2_extended.logic import And

    if isinstance(found, And):
        return _joined([_as_set(part) for part in found._unsorted_args], sympy.Intersection)
    if isinstance(found, sympy.Eq) and found.lhs.is_Symbol and isinstance(found.rhs, sympy.Set):
        return found.rhs  # how math-verify's parser reads "x is in S"
    if isinstance(found, sympy.core.relational.Relational):
        if found.has(sympy.oo) or found.has(-sympy.oo):
            return sympy.S.Reals  # "x < oo" says nothing
        if len(found.free_symbols) != 1:
            return None
        [letter] = found.free_symbols
        real = sympy.Symbol("x", real=True)
        return sympy.solveset(found.subs(letter, real), real, sympy.S.Reals)
    if isinstance(found, sympy.Interval):
        return found if sympy.Lt(found.start, found.end) == True else None  # noqa: E712
    if isinstance(found, sympy.Complement | sympy.Union):
        return _joined([_as_set(part) for part in found.args], found.func)
    if isinstance(found, sympy.FiniteSet):
        return sympy.FiniteSet(*found.args)  # the parser's own class isn't united with intervals
    return found if isinstance(found, sympy.Set) else None


def _pieces(found: Any) -> list[Any] | None:
    """Return the intervals and single numbers of a set from left to right; None where it has other parts."""
    import sympy

    parts = list(found.args) if isinstance(found, sympy.Union) else [found]
    pieces: list[Any] = []
    for part in parts:
        if isinstance(part, sympy.FiniteSet):
            pieces += [(one, one, False, False) for one in part.args]
        elif isinstance(part, sympy.Interval):
            pieces.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        else:
            return None
    return sorted(pieces, key=lambda piece: float(piece[0].evalf()))


def region_value(text: str) -> Value:
    """Return the canonical key of a set of numbers: its intervals from left to right."""
    found = region(text)
    if found is None:
        return formula_value(text)
    pieces = _pieces(found)
    if pieces is None:
        return Value(str(found))
    return Value(" U ".join(_written(*piece) for piece in pieces) or text_key(text))


def _written(start: Any, end: Any, left_open: bool, right_open: bool) -> str:
    if start == end:
        return f"{{{_number(start)}}}"
    return f"{'(' if left_open else '['}{_number(start)}, {_number(end)}{')' if right_open else ']'}"


def _number(value: Any) -> str:
    import sympy

    if isinstance(value, sympy.Float):
        value = sympy.Rational(str(value))
    return str(sympy.radsimp(value))


def regions_agree(gold: str, text: str, rounding: int) -> bool:
    """Return whether two texts describe the same set of numbers, or the same relation between several."""
    left, right = region(gold), region(text)
    if left is None or right is None:
        return left is right and formulas_agree(gold, text, rounding)
    first, second = _pieces(left), _pieces(right)
    if first is None or second is None:
        return bool(left == right)
    return len(first) == len(second) and all(
        one[2:] == other[2:]
        and numbers_agree(_exact(one[0]), _exact(other[0]), rounding)
        and numbers_agree(_exact(one[1]), _exact(other[1]), rounding)
        for one, other in zip(first, second, strict=True)
    )


def _exact(value: Any) -> Any:
    import sympy

    return value.xreplace({number: sympy.Rational(str(number)) for number in value.atoms(sympy.Float)})
