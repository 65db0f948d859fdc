"""One value and what it carries: a unit, a currency, a label, a per cent sign, a base, a time of day.

A number that is complete makes what stands behind it a unit or a label; an answer in words stays words.
"""

from __future__ import annotations

import re
from fractions import Fraction

from operators.verify.reading.numbers import number_at, simple_number
from operators.verify.reading.tree import Group, Leaf, Reading
from operators.verify.reading.units import Unit, currency_before, unit_at
from operators.verify.reading.writing import SAID

_WORDS = re.compile(
    r"(?:[A-Za-z][A-Za-z'.,-]*|\([A-Za-z][A-Za-z ,.'-]*\))(?:\s+(?:[A-Za-z][A-Za-z'.,-]*|\([A-Za-z][A-Za-z ,.'-]*\)))*"
)
_PROSE = re.compile(r"[A-Za-z]{2,}(?:[ ,'.-]+[A-Za-z]+)*\.?|[A-Z]|\(\s*[A-Za-z]\s*\)|[A-Za-z]-[a-z]{4,}(?: [a-z]+)*")
_COUNTED = re.compile(r"(?!.*[半和与或至到又点時时分])[\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af]+")
"""Words of scripts without blanks: what is counted, in a language that the other side needn't use."""
_SHORT = (
    "men|man|egg|pie|car|cat|dog|cow|pig|hen|toy|box|bag|cup|pen|way|row|hat|bus|kid|bar|jar|red|big|new|old|tie|bee|ant|can|hot|"
    "fox|cub|nut|pea|pot|pan|tin|mug|rug|tub|van|map|key|gem|pet|fan|lap|day|job|age|leg|win|tip|bed|net|mat|all|per|for|the|of|in"
)
_NOUN = re.compile(
    rf"(?!.*\b(?!a\b)[A-Za-z]\b)\(?(?:(?:{_SHORT})\b|[A-Za-z'-]*[aeiouyAEIOUY][A-Za-z'-]*(?<=[A-Za-z'-]{{4}}))"
)
"""A word of four letters with a vowel, or a known short one; no single letters: ``3 a b`` and ``2 xy`` are formulas."""
_NO_LABEL = re.compile(
    r"(?:plus|minus|times \w|over|mod|modulo|choose|to|divided|multiplied|squared|cubed|factorial|if|"
    r"when|where|for|and|or|"
    r"but|is|are|than|less|more|fewer|greater|smaller|in base|base|not|by|x|"
    r"hal(?:f|ves)|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth)s?)\b",
    re.IGNORECASE,
)
_SILENT = frozenset(
    [
        "of",
        "the",
        "a",
        "an",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "with",
        "is",
        "are",
        "was",
        "were",
        "will",
        "be",
        "total",
        "totals",
        "altogether",
        "all",
        "each",
        "per",
        "every",
        "more",
        "approximately",
        "about",
        "left",
        "remaining",
        "long",
        "tall",
        "wide",
        "high",
        "deep",
        "away",
        "old",
        "ago",
        "away",
        "away",
        "so",
        "only",
        "exactly",
        "overall",
        "away",
        "his",
        "her",
        "their",
        "its",
        "my",
        "your",
        "they",
        "he",
        "she",
        "we",
        "it",
        "there",
        "how",
        "many",
        "much",
        "that",
        "this",
        "these",
        "those",
        "as",
        "have",
        "has",
        "had",
        "answer",
        "around",
        "only",
        "combined",
        "away",
        "also",
        "now",
        "then",
        "than",
    ]
)
_IRREGULAR = {
    "people": "person", "persons": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "leaves": "leaf", "halves": "half", "loaves": "loaf",
    "knives": "knife", "dice": "die", "shelves": "shelf", "wolves": "wolf", "oxen": "ox",
}  # fmt: skip
_PER_CENT = re.compile(
    r"\s*(?:%|per\s?-?cents?\b(?!age\s+points?)|pct\b\.?|percentage\b(?!\s+points?))\s*(.*)", re.IGNORECASE | re.DOTALL
)
_BASE = re.compile(
    r"\(?(?P<digits>-?[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]+)?)\)?\s*(?:_\s*\{?\s*\(?(?P<sub>\d{1,2}|[a-z]+)\)?\s*\}?|[,(]?\s*(?:in\s+)?base[\s-]*\{?(?P<said>\d{1,2}|[a-z]+)\}?\)?)"
)
_PREFIXED = re.compile(r"0(?P<kind>[bBxXoO])(?P<digits>[0-9A-Fa-f]+)")
_BASE_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip
_HALF = r"(?P<half>[aApP]\s?\.?\s?[mM]\b\.?)"
_CLOCK = re.compile(
    rf"(?P<h>\d{{1,2}})(?:\s?:\s?(?P<m>\d{{2}})(?::(?P<s>\d{{2}}))?)?\s*"
    rf"(?:{_HALF}|(?P<clock>o'?clock)(?:\s+{_HALF.replace('half', 'half2')})?)?"
    r"(?:\s+(?:on|in\s+the|the|next|tomorrow|today|at)\s+[A-Za-z ]+|\s+(?P<noon>noon|midnight))?"
)
_COLON = re.compile(r"(-?[\d.,]+)\s*(?::|\s+to\s+)\s*(-?[\d.,]+)(?:\s*:\s*(-?[\d.,]+))?(?:\s*:\s*(-?[\d.,]+))?")
_COMPOUND = re.compile(r"(\d[\d,.]*\s*(?:\\frac\{\d+\}\{\d+\})?)\s*([A-Za-z'\"]+|\^\\circ)\.?(?:\s*,?\s*(?:and\s+)?)")
_FORMULA = re.compile(
    r"(?P<formula>.*?[\d})\]a-z])\s+(?P<words>\u2060?[A-Za-z(][A-Za-z'. (),/^{}\d\u2060-]*)", re.DOTALL
)
_COMMANDS = re.compile(r"\\begin\{[a-z]*\}|\\end\{[a-z]*\}|\\[A-Za-z]+")
_OPERATORS = re.compile(r"\\(?:cdot|times|div|pm|mp|circ)(?![A-Za-z])")
_NO_PRODUCT = re.compile(
    r"(?<![_^\d.])\d[\d.]*\s+\d|[A-Za-z]{4,}|[A-Za-z]{2,}\s+[A-Za-z]{2,}|(?<![A-Za-z\\])[A-Za-z]\d"
)
_TRIG = re.compile(r"(?<!arc)(?:sin|cos|tan|sec|csc|cot)(?![a-z])")
_LEFTOVER = re.compile(r"\\(?:frac|sqrt|cdot|times|div)\s*$|[-+*/^_=]\s*$")


def value_of(text: str, time: bool, whole: bool = False) -> Reading | None:
    """Return one value; None where the text may be something else: a list, an equation, a formula.

    Args:
        time: whether ``h:mm`` is a time where nothing says so.
        whole: the text is nothing else: what is no formula is words.
    """
    text = text.strip()
    number = simple_number(text)
    if number is not None:
        return Leaf("number", text, number)
    bare = text.replace(SAID, "")
    for reader in (_time, _numeral, _ratio, _compound):
        found = reader(bare, time)
        if found is not None:
            return found
    found = _plain(text)
    if found is not None:
        return found
    text, marked = bare, text
    if _PROSE.fullmatch(text) and not re.search(r"\b(?:and|or)\b", text):
        return Leaf("words", text.strip("() "))
    return _formula(marked) if whole else None


def _plain(text: str) -> Leaf | None:
    """Read a plain number, with a currency before and whatever behind."""
    sign = re.match(r"[-+]\s*(?=\\dollar|€|£|¥)", text)
    money, bare = currency_before(text[sign.end() :] if sign else text)
    found = number_at(bare)
    if found is None:
        return None
    value, rest = found
    value = -value if sign and sign[0].startswith("-") else value
    spelled = bare[: len(bare) - len(rest)].strip()
    carried = what_follows(rest, spelled)
    if carried is None:
        return None
    unit, label, percent = carried
    if unit is not None and money is not None and unit.powers == money.powers:
        money = None if unit.factor != 1 else money
    return Leaf(
        "number", ("-" if sign and sign[0].startswith("-") else "") + spelled, value, money or unit, label, percent
    )


def what_follows(rest: str, number: str = "1") -> tuple[Unit | None, frozenset[str], bool] | None:
    """Return unit, label and per cent sign in what stands behind a complete number; None if it is something else."""
    said, rest = SAID in rest, rest.replace(SAID, "")
    spaced, tail = rest[:1].isspace() or not rest or said, rest.strip()
    if not tail:
        return None, frozenset(), False
    if _COUNTED.fullmatch(tail):
        return None, frozenset(), False
    percent = _PER_CENT.fullmatch(tail)
    if percent:
        return None if percent[1] and not is_label(percent[1]) else (None, label_of(percent[1]), True)
    tail = _unit_fraction(tail)
    tail = tail.removeprefix("-") if re.match(r"-[A-Za-z]{2,}", tail) else tail  # 5-cm
    single = re.match(r"[A-Za-z](?![A-Za-z])", tail)
    if single and not spaced:
        return None  # 5m is five times m
    if single and not said and not re.match(r"[msghlLNJWVKACF](?![A-Za-z])", tail):
        return None
    unit, after = unit_at(tail)
    if after and not is_label(after, said or unit is not None):
        return None
    if unit is None and after == tail and not spaced and not re.match(r"[A-Za-z]{3,}", tail):
        return None
    return unit, label_of(after), False


def _unit_fraction(tail: str) -> str:
    """Write ``\\frac{miles}{hour}`` as ``miles/hour``, if both are units."""
    found = re.match(r"\\frac\{([^{}]*(?:\{[^{}]*\})?)\}\{([^{}]*(?:\{[^{}]*\})?)\}", tail.replace(SAID, ""))
    if found is None or any(unit_at(part)[0] is None or unit_at(part)[1] for part in found.groups()):
        return tail
    return f"{found[1].strip()}/{found[2].strip()}{tail.replace(SAID, '')[found.end() :]}"


def is_label(words: str, said: bool = False) -> bool:
    """Whether words behind a number say what is counted; ``said``: they can't be letters of a formula."""
    return bool(_WORDS.fullmatch(words)) and not _NO_LABEL.match(words) and (said or bool(_NOUN.match(words)))


def label_of(words: str) -> frozenset[str]:
    """Return the words of a label that mean something, in the singular."""
    found = re.findall(r"[a-z']+", re.sub(r"\([^)]*\)", " ", words.casefold()))
    return frozenset(singular(word) for word in found if len(word) > 1 and word not in _SILENT)


def singular(word: str) -> str:
    """Return the singular of an English noun, by its ending."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:[sxz]|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _time(text: str, time: bool) -> Leaf | None:
    if text.casefold() in ("noon", "midnight"):
        return Leaf("clock", "12:00", clock=(12, 0, 0), half="pm" if text.casefold() == "noon" else "am", time=True)
    found = _CLOCK.fullmatch(text)
    if not found:
        return None
    half = (found["half"] or found["half2"] or "").lower().replace(".", "").replace(" ", "")
    half = {"noon": "pm", "midnight": "am"}.get(found["noon"] or "", half)
    hours, minutes, seconds = int(found["h"]), int(found["m"] or 0), int(found["s"] or 0)
    if found["m"] is None and not half and not found["clock"]:
        return None
    said = bool(half or found["clock"])
    if said and (hours > 24 or minutes > 59):
        return None
    quotient = None if said or found["s"] or not minutes else Fraction(hours, minutes)
    written = f"{hours}:{minutes:02d}" + (f":{seconds:02d}" if found["s"] else "")
    if time or said:
        if hours > 12 and not half and hours <= 24:
            half = "am" if hours == 24 else "pm"
        return Leaf("clock", written, quotient, clock=(hours, minutes, seconds), half=half, time=True)
    if found["s"]:
        return None
    return Leaf("clock", written, quotient, clock=(hours, minutes, seconds))


def _numeral(text: str, _: bool) -> Leaf | None:
    """Read a numeral with its base: ``2516_8``, ``1A_{16}``, ``101 base 2``, ``0x1F``."""
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        return Leaf("number", prefixed["digits"].upper(), base={"b": 2, "x": 16, "o": 8}[prefixed["kind"].lower()])
    found = _BASE.fullmatch(text)
    if not found:
        return None
    said = found["sub"] or found["said"]
    base = _BASE_WORDS.get(said, 0) if said.isalpha() else int(said)
    digits = found["digits"].upper()
    if base < 2 or not digits.lstrip("-")[:1].isalnum() or (digits[:1].isalpha() and base <= 10):
        return None
    if base == 10:
        return Leaf("number", digits, Fraction(digits), base=10) if re.fullmatch(r"-?[\d.]+", digits) else None
    return Leaf(
        "number",
        digits.removeprefix("-").lstrip("0").join(("-" if digits.startswith("-") else "", "")) or "0",
        base=base,
    )


def _ratio(text: str, _: bool) -> Reading | None:
    found = _COLON.fullmatch(text)
    if not found:
        return None
    parts = [simple_number(part.replace(",", "")) for part in found.groups() if part is not None]
    if any(part is None for part in parts):
        return None
    if len(parts) == 2:
        above, below = parts
        assert above is not None and below is not None
        return Leaf("number", text, above / below) if below else None
    return Group("ratio", tuple(Leaf("number", str(part), part) for part in parts), text=text)


def _compound(text: str, _: bool) -> Leaf | None:
    """Read a sum of units of one kind: ``2 hours 30 minutes``, ``5 ft 3 in``."""
    at, total, first = 0, Fraction(0), None
    count = 0
    while at < len(text):
        found = _COMPOUND.match(text, at)
        value = number_at(found[1].strip()) if found else None
        unit = unit_at({"'": "ft", '"': "in"}.get(found[2], found[2]))[0] if found else None
        if found is None or value is None or value[1] or unit is None or unit.pi or unit.offset:
            return None
        first = first or unit
        if unit.powers != first.powers:
            return None
        total += value[0] * unit.factor / first.factor
        at, count = found.end(), count + 1
    if count < 2 or first is None:
        return None
    return Leaf("number", text, total, first)


def _formula(text: str) -> Leaf:
    """Read a formula, apart from the unit, label or per cent sign behind it.

    Algebra would take digits side by side, or the letters of words, for products: these are no formulas.
    """
    money, bare = currency_before(text)
    found = _FORMULA.fullmatch(bare)
    bare = bare.replace(SAID, "")
    base = re.fullmatch(r"(.*[\d)}\]a-z])\s*(%|\^\\circ)", bare, re.DOTALL)
    if base and not re.search(r"\^\\circ", base[1]) and not (base[2] != "%" and _TRIG.search(base[1])):
        unit = None if base[2] == "%" else unit_at(r"^\circ")[0]
        return Leaf("formula", base[1].strip(), unit=money or unit, percent=base[2] == "%")
    if found and re.search(r"\d|\\(?:pi|sqrt)", found["formula"]) and not _LEFTOVER.search(found["formula"]):
        carried = what_follows(" " + found["words"])
        if carried is not None and re.search(r"[A-Za-z]{2}", found["words"]):
            unit, label, percent = carried
            return Leaf("formula", found["formula"].strip(), unit=money or unit, label=label, percent=percent)
    plain = _COMMANDS.sub(" ", _OPERATORS.sub("*", bare))
    return Leaf("text" if _NO_PRODUCT.search(plain) else "formula", bare, unit=money)
