"""Reading an answer: from its text to the tree of what it says.

A text is looked at from the outside to the inside: lists, names (``x = 3``), brackets, then one value with what it
carries (a unit, a label, a per cent sign, a base, a.m. or p.m.). What is neither a plain number nor words is left to
algebra.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from operators.verify.reading.carried import value_of
from operators.verify.reading.numbers import simple_number
from operators.verify.reading.tree import Group, Leaf, Named, Reading
from operators.verify.reading.writing import LONGEST, SAID, tidy

_OPEN, _CLOSE = "([{", ")]}"
_AND = re.compile(r"(?:,|;)?\s+(?:and|or|und|oder|et|ou|y|o)\s+|\s+&\s+")
_RELATION = re.compile(r"<|>|\\(?:le|ge|ne|in|notin|cup|cap|setminus|subset|approx)(?![a-zA-Z])")
_RANGE = re.compile(r"\\(?:cup|cap|setminus)(?![a-zA-Z])|<|>|\\(?:le|ge|ne)(?![a-zA-Z])")
_NAME = re.compile(
    r"(?:\\[a-zA-Z]+\s*)?[A-Za-z]?[A-Za-z ']*(?:_\{?\w+\}?)?(?:'+)?(?:\([A-Za-z\\ ,]*\))?|\|[A-Za-z]{1,3}\||"
    r"m?\\(?:angle|overline|triangle|measuredangle)\s*\{?[A-Za-z]{1,3}\}?|[A-Za-z]\(\w+\)|\([A-Za-z](?:\s*,\s*[A-Za-z])+\)"
)
_FRENCH = re.compile(r"(\])([^\[\]]*)([\[\]])|(\[)([^\[\]]*)(\[)")
_LATEX_COMMAND = re.compile(r"\\[a-zA-Z]+")
_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\\in\s*(?:\\mathbb\{[A-Z]\}|[A-Z])\s*)?(?:\||:)\s*(.*)\\\}", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{|\\\\")
_EMPTY = re.compile(r"\\emptyset|\\\{\s*\\\}|\{\s*\}")


@lru_cache(maxsize=65536)
def read(answer: str, time: bool = False) -> Reading:
    """Return what an answer says.

    Args:
        time: whether ``h:mm`` is a time where nothing in it says so.
    """
    if len(answer) > LONGEST:
        return Leaf("words", answer)
    number = simple_number(answer)
    if number is not None:
        return Leaf("number", answer, number)
    text = tidy(answer)
    return _read(text, time) if text else Leaf("text", answer.strip())


def _read(text: str, time: bool, depth: int = 0) -> Reading:
    text = text.strip()
    if depth > 8:
        return Leaf("formula", text)
    value = value_of(text, time)
    if value is not None:
        return value
    if _EMPTY.fullmatch(text):
        return Group("set", (), "{}", text)
    if _MATRIX.search(text):
        return _with_name(text, time, depth) or Leaf("formula", text.replace(SAID, ""))
    marked, text = text, text.replace(SAID, "")
    builder = _BUILDER.fullmatch(text)
    if builder:
        return _region(builder[2], builder[1])
    text = marked
    grouped = _group(_FRENCH.sub(_french, text), time, depth)
    if grouped is not None:
        return grouped
    if text == r"\mathbb{R}":
        return _region(text, "")
    if _RANGE.search(text):
        return _range(text, time, depth)
    parts = split(text)
    if len(parts) > 1 and all(parts):
        return _several(parts, time, depth)
    named = _with_name(text, time, depth)
    if named is not None:
        return named
    both = plus_minus(text)
    if both is not None:
        return Group("list", tuple(_read(one, time, depth + 1) for one in both))
    return value_of(text, time, whole=True) or Leaf("formula", text.replace(SAID, ""))


def split(text: str) -> list[str]:
    """Return the parts of a bare list; of anything else the text itself."""
    parts, depth, start, at = list[str](), 0, 0, 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and at + 1 < len(text):
            escaped = text[at + 1]
            depth += (escaped == "{") - (escaped == "}")
            if text.startswith((r"\langle", r"\rangle"), at):
                depth += 1 if text[at + 1] == "l" else -1
            at += 2
            continue
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth <= 0:
            joined = _AND.match(text, at)
            if joined and (sign in ",;" or sign == " "):
                parts.append(text[start:at])
                at = start = joined.end()
                continue
            if sign == ";" or (sign == "," and not _groups_digits(text, at)):
                parts.append(text[start:at])
                start = at + 1
        at += 1
    parts.append(text[start:])
    return [part.strip() for part in parts]


def _groups_digits(text: str, at: int) -> bool:
    return bool(re.search(r"(?<!\d)\d{1,3}$", text[:at][-4:]) or re.search(r",\d{3}$", text[:at])) and bool(
        re.match(r"\d{3}(?!\d)", text[at + 1 :])
    )


def _several(parts: list[str], time: bool, depth: int) -> Reading:
    """Read a bare list: of values, of names with values, or of one name with several values."""
    members = [_read(part, time, depth + 1) for part in parts]
    if all(isinstance(member, Named) and len(member.values) == 1 for member in members):
        pairs = [member.values[0] for member in members if isinstance(member, Named)]
        if len({name for name, _ in pairs}) == 1:
            return Named(((pairs[0][0], _list([value for _, value in pairs])),))
        if len({name for name, _ in pairs}) == len(pairs):
            return Named(tuple(sorted(pairs, key=lambda pair: pair[0])))
    elif isinstance(members[0], Named) and not any(isinstance(member, Named) for member in members[1:]):
        name, first = members[0].values[0]
        if len(members[0].values) == 1:
            return Named(((name, _list([first, *members[1:]])),))
    return _list(members)


def _list(members: list[Reading]) -> Reading:
    return Group("list", _flat(members))


def _flat(members: Iterable[Reading]) -> tuple[Reading, ...]:
    """Return members, of bare lists among them (``3 \\pm 1``) their own."""
    flat: list[Reading] = []
    for member in members:
        flat += member.members if isinstance(member, Group) and member.kind == "list" else [member]
    return tuple(flat)


def _with_name(text: str, time: bool, depth: int) -> Reading | None:
    """Read ``x = 3``, ``(x, y) = (3, 5)``, ``x \\in S`` and chains of them; None where no name stands before."""
    parts = _sides(text)
    if len(parts) == 1:
        inside = re.fullmatch(r"(\\[A-Za-z]+|[A-Za-z])\s*\\in\s*(.*)", text, re.DOTALL)
        if inside:
            return Named(((inside[1], _read(inside[2], time, depth + 1)),))
        around = re.fullmatch(r"(.*?)\s*\\approx\s*(.*)", text)
        if around:  # the exact side of the two
            return _read(around[2] if _is_name(around[1]) else around[1], time, depth + 1)
        return None
    *before, last = [part.replace(SAID, "").strip() for part in parts[:-1]] + parts[-1:]
    if not all(parts):
        return None
    if not _is_name(before[0]):
        if _variables(text):
            return None  # an equation
        return _read(last, time, depth + 1)  # a calculation: 2 + 3 = 5
    value = _read(last, time, depth + 1)
    names = [name for name in before if _is_name(name)]
    pair = re.fullmatch(r"\((.*,.*)\)", names[0])
    if pair and isinstance(value, Group) and value.kind in ("tuple", "interval"):
        each = [name.strip() for name in pair[1].split(",")]
        if len(each) == len(value.members):
            return Named(tuple(sorted(zip(each, value.members, strict=True))))
    if len(names) > 1 and len(names) == len(before):
        return Named(tuple(sorted((_name(name), value) for name in dict.fromkeys(names))))
    return Named(((_name(names[0]), value),), text)


def _sides(text: str) -> list[str]:
    """Split an equation at its signs of equality."""
    return [part.strip() for part in re.split(r"(?<![<>!:\\])=(?!=)", text)]


def _is_name(text: str) -> bool:
    return (
        len(text) <= 40
        and bool(text)
        and not re.search(r"\\(?:frac|sqrt|pi|infty)", text)
        and bool(_NAME.fullmatch(text))
    )


def _name(text: str) -> str:
    """Return a name in canonical writing; of words the last that means something, of ``f(x)`` and ``y`` the same."""
    text = re.sub(r"[\s{}]", "", text) if not re.search(r"[a-z] [a-z]", text) else " ".join(text.split()).casefold()
    text = re.sub(r"^(?:the|so|then|thus|hence|therefore|value of|and) ", "", text)
    return "y" if re.fullmatch(r"f\(x\)", text) else text


def _variables(text: str) -> bool:
    """Whether letters are left that stand for something unknown."""
    rest = _LATEX_COMMAND.sub(" ", text)
    return (
        re.search(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", re.sub(r"(?<![a-zA-Z])[ei](?![a-zA-Z])", "", rest)) is not None
    )


def _group(text: str, time: bool, depth: int) -> Reading | None:
    """Read what is wholly in brackets; None for anything else."""
    for opening, closing in ((r"\{", r"\}"), (r"\langle", r"\rangle"), ("(", ")"), ("(", "]"), ("[", ")"), ("[", "]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            if not _balanced(inner):
                continue
            parts = split(inner)
            if not all(parts):
                return None
            if len(parts) == 1 and opening != r"\{":
                if opening == "(" and closing == ")" and not _RELATION.search(inner):
                    return value_of(inner, time)  # (5), (A)
                return None
            members = tuple(_read(part, time, depth + 1) for part in parts)
            if opening == r"\{":
                return Group("set", _flat(members), "{}", text)
            brackets = "()" if opening == r"\langle" else opening + closing
            if len(members) != 2 or brackets == "()":
                return Group("tuple", members, brackets, f"({parts[0]},{parts[1]})" if len(parts) == 2 else "")
            return Group("interval", members, brackets, text)
    return None


def _french(found: re.Match[str]) -> str:
    """Return ``]1;2]`` as ``(1;2]`` and ``[1;2[`` as ``[1;2)``."""
    opening, inner, closing = found.groups()[:3] if found[1] else found.groups()[3:]
    return f"{'(' if opening == ']' else '['}{inner}{')' if closing == '[' else ']'}"


def _balanced(inner: str) -> bool:
    """Whether the first bracket of a text closes with its last one."""
    depth = 0
    for sign in re.sub(r"\\(?:left|right)", "", inner):
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth < 0:
            return False
    return depth == 0


def _range(text: str, time: bool, depth: int) -> Reading:
    """Read relations and unions of intervals: a region of one variable, or a formula of several."""
    named = re.fullmatch(r"([A-Za-z])\s*\\in\s*(.*)", text, re.DOTALL)
    if named:
        return _region(named[2], named[1])
    letters = set(
        re.findall(
            r"[A-Za-z]", _LATEX_COMMAND.sub(" ", re.sub(r"\\(?:text|mathbb)\{[^}]*\}|\b(?:or|and)\b", " ", text))
        )
    )
    if len(letters) > 1:
        parts = split(text)
        if len(parts) > 1 and all(parts):
            return _list([_read(part, time, depth + 1) for part in parts])
        return Leaf("formula", text.replace(SAID, ""))
    return _region(text, next(iter(letters), ""))


def _region(text: str, variable: str) -> Leaf:
    return Leaf("region", text.replace(SAID, "").strip(), variable=variable)


def plus_minus(text: str) -> tuple[str, str] | None:
    """Return both meanings of a text with ``\\pm``; None where there is none."""
    if not re.search(r"\\[pm]{2}(?<!mm)(?<!pp)(?![a-zA-Z])", text):
        return None
    upper = re.sub(r"\\mp(?![a-zA-Z])\s*", "-", re.sub(r"\\pm(?![a-zA-Z])\s*", "+", text))
    lower = re.sub(r"\\mp(?![a-zA-Z])\s*", "+", re.sub(r"\\pm(?![a-zA-Z])\s*", "-", text))
    return upper.removeprefix("+"), lower
