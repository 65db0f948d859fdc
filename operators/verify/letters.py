"""Which letters of a list of options a text settles on.

What a text says last with the words of an answer ("the answer is B", "B is correct", ``\\boxed{B}``) counts, whatever
it discusses afterwards. "A" before a noun is an article. Two letters ("A or B") are two, and no answer where one is
asked.
"""

# full-width signs are what it is about
# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

_DRESS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_TAG = re.compile(r"(?is)<answer>(.*?)</answer>")
_JSON = re.compile(
    r"""(?i)["'](?:final_?\s?|correct_?\s?)?(?:answer|choice|option|selection|response|letter)["']\s*:\s*["']?([^"'\n}]*)"""
)
_NOUN = (
    r"(?:answers?|choices?|options?|selection|response|antwort|lösung|respuesta|opción|réponse|risposta|resposta|ответ|"
    r"答案|答え|回答|正解|선택|정답)"
)
_IS = (
    r"(?:\s*\b(?:is|are|would\s+be|must\s+be|should\s+be|will\s+be|has\s+to\s+be|ist|es|est|è|é)\b\s*(?::|\s)|"
    r"\s*(?:[:=]|是|为|為|は|选|選|->|→)|\s+[-\u2013\u2014]\s)"
)
_LINKS = (
    r"(?:\s|[:\"'“「(\[{$]|therefore\b|thus\b|clearly\b|simply\b|indeed\b|definitely\b|most\s+likely\b|probably\b|likely\b|"
    r"either\b|not\s+\(?[A-Za-z]\)?,?\s+but\b|letter\b|option\b|choice\b|answer\b|choose\b|(?:the\s+)?(?:correct|right|best)\s+(?:answer|option|choice)\b|,)*"
)
_SAID = re.compile(rf"(?i){_NOUN}(?:\s+(?:to|for|of)\s+(?:(?!\bis\b)[^.:\n]){{1,60}}?)??{_IS}{_LINKS}")
_CHOSEN = re.compile(
    rf"(?i)(?:\b(?:i|we|i'll|i'd|would|will|must|should|to)\s+(?:\w+\s+)?(?:choose|pick|select|chose|picked|selected|opt\s+for|"
    rf"go\s+with|going\s+with|answer)|\b(?:choose|select|pick|selecting|choosing)|(?:应该)?选择?|選擇?){_LINKS}"
)
_CONCLUDED = re.compile(
    rf"(?im)(?:^|(?<=[.!?\n])\s*|,\s+)(?:(?:therefore|thus|hence|so|in\s+conclusion|overall|finally)\b[,:\s]*(?:(?:it|this|that)\s+"
    rf"(?:is|must\s+be|has\s+to\s+be|leaves|gives)\s+)?|(?:it|this|that)(?:'s|\s+(?:is|must\s+be|has\s+to\s+be|leaves))\s+|"
    rf"(?:it's\s+|it\s+is\s+|i\s+think\s+(?:that\s+)?(?:it's\s+|it\s+is\s+)?)|(?:correct|final)\s*:\s*){_LINKS}"
)
_RIGHT = re.compile(
    r"(?i)(?<![\w'])\(?(?:(?:option|choice|answer|statement)\s+)?\(?([A-Za-z])\)?[.:)]?\s+"
    r"(?:is|are|must\s+be|would\s+be|should\s+be|looks|has\s+to\s+be)\s+(?:(?:therefore|thus|clearly|indeed|definitely|obviously|also|the|"
    r"most|only|one|a|our|my|likely|probably)\s+)*(?:correct|right|best|true|answer|solution|choice|valid)\b(?!\s+(?:if|when|only)\b)"
)
_DOUBT = re.compile(
    r"(?i)\b(?:if|whether|suppose|assume|assuming|unless|not|neither|nor|why|that)\s+(?:option\s+|choice\s+)?\(?$"
)
_LINE = re.compile(r"(?m)^[ \t>*#-]*\(?([A-Za-z])(?:[).:]+[ \t]*|[ \t]*$|[ \t]*[-\u2013\u2014][ \t]+)(.*)$")
_LONE = re.compile(r"[\s\"'$]*(?:option|choice|answer)?[\s:]*\(?\[?\s*([A-Za-z])\s*\]?\)?[\s.:)\"'$]*", re.IGNORECASE)
_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_ENDS = (
    r"(?=\s*(?:$|[.,;:!?)\]}\"'»”」。，；：\n<|/&+$]|-\s|[-\u2013\u2014]\s|\((?![a-z])|"
    r"\b(?:or|and|because|since|as|for|due|with|is|which|oder|ou|und|o|y)\b))"
)
_MORE = re.compile(
    r"[.)\]]?\s*(?:,\s*(?:and\s+|or\s+)?|/|&|\+|;\s*|\bor\b\s*(?:option\s+|maybe\s+|perhaps\s+)?|\band\b\s*(?:option\s+)?|\boder\b\s*)\s*\(?([A-Za-z])\b\)?"
    r"(?=\s*(?:$|[.,;:!?)\]}\"'\n/&+$]|\b(?:or|and|are|both)\b))"
)
_NO, _YES = (
    r"\b(?:no|not|wrong|incorrect|false|untrue|doesn't|isn't)\b|✗|✘|❌|×",
    r"\b(?:yes|correct|right|true)\b|✓|✔|✅",
)


def plain(text: str) -> str:
    """Return a text without emphasis, LaTeX's fonts and full-width signs."""
    text = unicodedata.normalize("NFKC", text)
    for _ in range(2):
        text = _DRESS.sub(r" \1 ", text)
    text = re.sub(r"\\[()\[\]]|\*\*|__|`|\\left|\\right|\$", "", text)
    return re.sub(r"(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text).replace("\u2019", "'")


def settled(text: str, letters: str, options: Sequence[str] = ()) -> list[str]:
    """Return the letters that a text settles on: none, one, or several where it doesn't decide.

    Args:
        letters: those that options have, in upper case.
        options: their texts, in order; a text may give one instead of its letter.
    """
    text = plain(text)
    for found in (_marked, _stated, _alone, _listed):
        chosen = found(text, letters, options)
        if chosen:
            return chosen
    return named_in(text, letters, options)


def _marked(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read what is in a box, an answer tag or a JSON field: the last one that holds letters or an option."""
    for pattern in (_BOXED, _TAG, _JSON):
        for content in reversed(pattern.findall(text)):
            found = _whole(content, letters) or _exactly(content, letters, options)
            if found:
                return found
    return []


def _whole(content: str, letters: str) -> list[str]:
    """Read a short text that is nothing but letters, or a letter before its option's text."""
    content = re.sub(r"(?i)^\s*(?:option|choice|answer)\b[\s:]*", "", content.strip().strip("\"'"))
    first = re.match(r"\(?\[?\s*([A-Za-z])\s*(?:\)|\]|\.|:|(?=$|\s*[,/&+;]|\s+(?:or|and)\s))", content)
    if not first or first[1].upper() not in letters:
        return []
    return [first[1].upper(), *_further(content, first.start() + first[0].index(first[1]) + 1, letters)]


def _further(text: str, at: int, letters: str) -> list[str]:
    """Return the letters that stand beside one, with commas and the like between."""
    found: list[str] = []
    while (more := _MORE.match(text, at)) and more[1].upper() in letters:
        if more[1].islower() and not text[at - 1].islower():
            break  # "A, a ..."
        found.append(more[1].upper())
        at = more.end(1)
    return found


def _stated(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read statements: of those that name an answer the last."""
    last, chosen = -1, list[str]()
    for at, found in _statements(text, letters, options):
        if at >= last:
            last, chosen = at, found
    return chosen


def _statements(text: str, letters: str, options: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for pattern in (_CONCLUDED, _SAID, _CHOSEN):
        for stated in pattern.finditer(text):
            at = stated.end()
            found = _letter_at(text, at, letters)
            if found is not None:
                yield stated.start(), [found, *_further(text, at + 1, letters)]
            else:
                line = re.split(r"\n|(?<=[a-z)])\.\s", text[at : at + 300])[0]
                named = _starting(line, letters, options)
                if named:
                    yield stated.start(), named
    for stated in _RIGHT.finditer(text):
        letter, before = stated[1], text[: stated.start()]
        if letter.upper() not in letters or _DOUBT.search(before[-40:]):
            continue
        if letter in "aiI" and letter != "A" and not stated[0].lstrip().startswith("("):
            continue  # an article, a person
        pair = re.search(r"\b([A-Z])\)?\s*(?:,|or|and|/)\s*\(?$", before)
        both = [pair[1].upper()] if pair and pair[1].upper() in letters else []
        yield stated.start(), [*both, letter.upper()]


def _letter_at(text: str, at: int, letters: str) -> str | None:
    """Return the letter that stands at a place, None where what stands there is a word, an article or a formula."""
    letter = text[at : at + 1]
    if letter.upper() not in letters or not letter or (at and re.match(r"[A-Za-z]", text[at - 1])):
        return None
    rest = text[at + 1 :]
    if re.match(_ENDS, rest):
        if letter in "aA" and re.match(r"\s+(?:or|and|for|as|with)\b", rest) and letter == "a":
            return None
        return letter.upper()
    if letter.isupper() and letter not in "AI" and re.match(r"\s+[A-Za-z(]", rest):
        return letter
    return None


def _starting(line: str, letters: str, options: Sequence[str]) -> list[str]:
    """Return the option whose text a line begins with, the longest of several."""
    said = comparable(line)
    fits = [
        (len(option), letter)
        for letter, option in zip(letters, map(comparable, options), strict=False)
        if option and re.match(rf"(?:the |an? )?{re.escape(option)}(?!\w)", said)
    ]
    return [max(fits)[1]] if fits else []


def _alone(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read a line that is nothing but a letter: the last of the text, else the first."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in (lines[-1:] + lines[:1]) if lines else []:
        found = _LONE.fullmatch(line)
        if found and found[1].upper() in letters:
            return [found[1].upper()]
        several = _whole(line, letters) if re.fullmatch(r"\W*\w(?:\W+(?:or\W+|and\W+)?\w)*\W*", line) else []
        if len(several) > 1:
            return several
    return []


def _listed(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read lines that begin with letters: a single one, or the only one that is called right; else ``(B)``."""
    lines = [(letter.upper(), rest) for letter, rest in _LINE.findall(text) if letter.upper() in letters]
    if len({letter for letter, _ in lines}) == 1:
        return [lines[0][0]]
    right = {letter for letter, rest in lines if re.search(_YES, rest, re.I) and not re.search(_NO, rest, re.I)}
    if len(right) == 1:
        return [right.pop()]
    if lines:
        return []
    for line in reversed(text.splitlines()):
        bracketed = {letter.upper() for letter in _BRACKETED.findall(line) if letter.upper() in letters}
        if bracketed:
            return sorted(bracketed)
    return []


def _exactly(content: str, letters: str, options: Sequence[str]) -> list[str]:
    return [
        letter for letter, option in zip(letters, options, strict=False) if comparable(option) == comparable(content)
    ][:1]


def named_in(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Return the options whose texts are in the last line; of one within another the longer."""
    lines = [line for line in text.splitlines() if line.strip()]
    if sum(_LINE.match(line) is not None for line in lines) > 1 and _LINE.match(lines[-1]):
        return []  # options are listed, and the last of them is no answer
    last = comparable(lines[-1]) if lines else ""
    there = {
        letter: option
        for letter, option in zip(letters, map(comparable, options), strict=False)
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", last)
    }
    return [
        letter
        for letter, option in there.items()
        if not any(option != other and option in other for other in there.values())
    ]


def comparable(text: str) -> str:
    """Return an option's text as it is compared: in one case and spacing, without a full stop."""
    return re.sub(r"\s+", " ", plain(text).strip().strip(".").strip().casefold())
