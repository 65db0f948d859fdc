"""Plain numbers: exact values of what needs no algebra."""

from __future__ import annotations

import re
from fractions import Fraction

_GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?!\d)"
_DECIMAL = rf"(?:(?:{_GROUPED}|\d+)(?:\.\d+|\.(?![\d\\]))?|\.\d+)"
_HEAD = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:
      (?P<repeated>\d*\.\d*)\\(?:overline|bar|dot)\{{(?P<period>\d+)\}}
    | (?P<whole>\d+)?\s*\\frac\{{(?P<minus>-?)\s*(?P<above>\d+)\}}\{{(?P<below>\d+)\}}
    | (?P<whole2>\d+)\s(?P<above2>\d+)/(?P<below2>\d+)
    | (?P<above3>(?:{_GROUPED}|\d+))\s*/\s*(?P<below3>\d+)(?![.\d])
    | (?P<decimal>{_DECIMAL})
      (?:(?:[eE]|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^)\s*\{{?\s*(?P<power>[-+]?\d{{1,3}}(?!\d))(?:\s*\}})?)?
    )""",
    re.VERBOSE,
)
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
           "万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8}  # fmt: skip
_SCALE = re.compile(rf"[\s\u2060]*({'|'.join(_SCALES)})s?(?![a-z])", re.IGNORECASE)
_SIMPLE = re.compile(r"[-+]?\d{1,18}(?:\.\d{1,18})?")


def simple_number(text: str) -> Fraction | None:
    """Return the value of digits with at most a sign and a point; None for anything else. Fast."""
    return Fraction(text) if _SIMPLE.fullmatch(text) else None


def number_at(text: str) -> tuple[Fraction, str] | None:
    """Return the plain number that a tidied text begins with, and the rest; None where it begins with none."""
    found = _ten_to(text) or _HEAD.match(text)
    if not found:
        return None
    value = _value(found)
    if value is None:
        return None
    rest = text[found.end() :]
    scale = _SCALE.match(rest)
    if scale and not found["power"]:
        value, rest = value * _SCALES[scale[1].lower()], rest[scale.end() :]
    return value, rest


def _ten_to(text: str) -> re.Match[str] | None:
    """Prefer ``10^3`` to a decimal 10 with a power behind it."""
    found = re.match(r"[-+]?\s*10\s*\^", text)
    if not found:
        return None
    return re.match(r"(?P<sign>[-+]?)\s*(?P<ten>10\s*\^\s*(?:\{\s*(?P<power2>[-+]?\d{1,3})\s*\}|(?P<power3>\d)(?!\d)))"
                    r"(?P<power>)(?P<repeated>)?", text)  # fmt: skip


def _value(found: re.Match[str]) -> Fraction | None:
    groups = found.groupdict()
    value: Fraction | None
    if groups.get("ten"):
        value = Fraction(10) ** int(groups["power2"] or groups.get("power3") or 0)
    elif groups["repeated"]:
        digits, period = groups["repeated"], groups["period"]
        head, places = Fraction("0" + digits + "0"), len(digits.partition(".")[2])
        value = head + Fraction(int(period), (10 ** len(period) - 1) * 10**places)
    elif groups["decimal"]:
        value = Fraction(re.sub(r"[, ]", "", groups["decimal"]).removesuffix(".")) * Fraction(10) ** int(
            groups["power"] or 0
        )
    else:
        value = _ratio(groups)
    return None if value is None else (-value if found["sign"] == "-" else value)


def _ratio(groups: dict[str, str | None]) -> Fraction | None:
    whole, above, below = next(
        (groups.get(f"whole{number}"), groups[f"above{number}"], groups[f"below{number}"] or "")
        for number in ("", "2", "3")
        if groups[f"above{number}"]
    )
    if int(below) == 0:
        return None
    value = Fraction(int(re.sub(r"[, ]", "", above or "")), int(below))
    if whole:  # a mixed number; 3\frac{5}{4} is none
        if not 0 < value < 1 or groups["minus"]:
            return None
        value += int(whole)
    return -value if groups["minus"] else value
