"""The canonical text of an answer that needs no algebra: a number, or words.

What more an answer may say (units, lists, formulas) is the business of ``operators.verify.reading``.
"""

from __future__ import annotations

from operators.verify.reading.rationals import number_key
from operators.verify.reading.reader import read
from operators.verify.reading.tree import Leaf, Named
from operators.verify.reading.writing import LONGEST, text_key


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
