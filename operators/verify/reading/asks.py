"""What a question asks for, as far as it decides how an answer is read: a percentage, a base, a pair, a time, a ratio.

Only the question's last sentence asks; instructions behind it ("Round to ...") belong to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_SENTENCE = re.compile(r"(?<=[.?!])[\"')\]]*\s+(?=[^a-z\s])|\n+")
_INSTRUCTION = re.compile(
    r"(?i)\W*(?:express|round|give|write|enter|put|leave|provide|state|simplify|answer|your answer|the answer|use|"
    r"assume|note|hint|please|let's|let us|think|show|box|type|present|report|submit|do not|don't|if necessary|only|"
    r"reason|solve the|explain|include|return|output|respond|end|final|make sure|remember|recall)\b"
)
_PER_CENT = r"(?:per\s?-?cent(?:age)?s?\b|\\?%)"
_NOT = re.compile(rf"(?i)\bnot\s+(?:as\s+|in\s+|a\s+|an\s+|the\s+)*{_PER_CENT}|without\s+(?:the\s+|a\s+)?{_PER_CENT}")
_PER_CENT_ASKED = re.compile(
    rf"(?i)\b(?:what|which|how\s+many|how\s+much|find|calculate|compute|determine|give|state|estimate|report)\s+"
    rf"(?:(?:is|are|was|were|will\s+be|would\s+be|the|a|an|his|her|their|its|this|that|your)\s+)*"
    rf"(?:(?!\d)[a-z'-]+\s+){{0,3}}?{_PER_CENT}"
    rf"|\b(?:as|in|into|to)\s+(?:an?\s+|the\s+|terms\s+of\s+)?(?:[a-z]+\s+){{0,4}}{_PER_CENT}"
    rf"|\bby\s+(?:what|how\s+many)\s+{_PER_CENT}|\bthe\s+{_PER_CENT}\s+(?:is|of\s+\w+\s+(?:that|who|which|is|are))"
    rf"|{_PER_CENT}\s*\?\s*$|\b(?:answer|result)\b[^.?!]*\bin\s+{_PER_CENT}|\b(?:what|which|find)\b[^.?!]*\(\s*(?:in\s+)?(?:an?\s+)?{_PER_CENT}\s*\)"
)
_GIVEN = re.compile(
    rf"(?i)\b(?:if|given\s+that|when|suppose(?:\s+that)?|assuming)\s+(?:the|a|this|that)\s+{_PER_CENT}[^,;?]*"
)
"""A condition that gives a percentage."""
_NUMBERED = re.compile(
    rf"(?i)(?:\d[\d.,]*|\$|\}}|\b(?:ten|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|five)\b)\s*-?\s*"
    rf"{_PER_CENT}"
)
_PAIR = re.compile(
    r"(?i)\b(?:pairs?|triples?|triplets?|tuples?|quadruples?|points?|coordinates?|vertex|vertices|vector)\b"
)
_CLOCK = re.compile(
    r"(?i)\b\d{1,2}(?::\d{2})?\s*(?:a\.?m\b|p\.?m\b|a\.m\.|p\.m\.|o'clock)|\bo'clock\b|\b(?:noon|midnight)\b"
)
_TIME = re.compile(
    r"(?i)\b(?:time|clock|o'clock|a\.m\.|p\.m\.|am|pm|hour\s+hand|hh?:mm|when\s+(?:will|did|does|do|is|was|are|were|should|must))\b"
)
_RATIO = re.compile(r"(?i)\b(?:ratios?|proportions?|odds|scale)\b")
_NAMES = {
    "binary": 2, "ternary": 3, "quaternary": 4, "quinary": 5, "senary": 6, "septenary": 7, "octal": 8, "nonary": 9,
    "duodecimal": 12, "hexadecimal": 16, "vigesimal": 20,
}  # fmt: skip
_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "eleven": 11, "twelve": 12,
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "twenty": 20,
}  # fmt: skip
_BASE = re.compile(
    rf"(?i)\bbase(?!\s+(?:of|is|has|and|with|length|area|angle|side)\b)[\s\-$\\{{}}a-z]{{0,12}}?(\d{{1,2}}|{'|'.join(_WORDS)})\b|\b({'|'.join(_NAMES)})\b|\d_\{{?(\d{{1,2}})\b"
)
_LONGEST = 20_000


@dataclass(frozen=True)
class Asks:
    """What a question asks for; by default nothing is known."""

    percent: bool = False
    bases: frozenset[int] = frozenset()
    """Bases of numerals that it names."""
    pair: bool = False
    """A pair, a point or coordinates: ``(a, b)`` is no interval."""
    time: bool = False
    """A time of day: ``h:mm`` is one."""
    ratio: bool = False


NOTHING = Asks()


@lru_cache(maxsize=4096)
def asks_of(question: str | None) -> Asks:
    """Return what a question asks for; without its text, nothing was asked."""
    if not question:
        return NOTHING
    question = question[-_LONGEST:].replace("\u2019", "'")
    asking = _asking(question)
    ratio = _RATIO.search(asking) is not None
    return Asks(
        percent=_percent(asking),
        bases=frozenset(_bases(question)),
        pair=_PAIR.search(asking) is not None,
        time=not ratio and (_TIME.search(asking) is not None or _CLOCK.search(question) is not None),
        ratio=ratio,
    )


def _asking(question: str) -> str:
    """Return the last sentence, and the one that asks where those behind it only instruct."""
    sentences = [part for part in _SENTENCE.split(re.sub(r"(?s)\[asy\].*?\[/asy\]", " ", question)) if part.strip()]
    at = len(sentences) - 1
    while at > 0 and _INSTRUCTION.match(sentences[at]):
        at -= 1
    return " ".join(sentences[max(0, at) :])


def _percent(asking: str) -> bool:
    if _NOT.search(asking):
        return False
    return _PER_CENT_ASKED.search(_NUMBERED.sub(" ", _GIVEN.sub(" ", asking))) is not None


def _bases(question: str) -> set[int]:
    found: set[int] = set()
    for spelled, name, subscript in _BASE.findall(question):
        if name:
            found.add(_NAMES[name.lower()])
        elif subscript:
            found.add(int(subscript))
        else:
            found.add(_WORDS.get(spelled.lower()) or int(spelled))
    return {base for base in found if 2 <= base <= 36}
