"""Which letters of a list of options a text settles on.

What a text says last with the words of an answer ("the answer is B", "B is correct", ``\\boxed{B}``) counts, whatever
it discusses afterwards. "A" before a noun is an article. Two letters ("A or B") are two, and no answer where one is
asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from operators.verify.letter_words import (
    BOXED,
    BRACKETED,
    CHOSEN,
    CONCLUDED,
    CORRECTED,
    DENIED,
    DOUBT,
    DRESS,
    ENDS,
    INLINE,
    JSON,
    LAST_IS,
    LAST_SENTENCE,
    LINE,
    LONE,
    MORE,
    NO,
    NOT_THESE,
    OPENING,
    REFUSED,
    RIGHT,
    SAID,
    SUPPOSED,
    TAG,
    YES,
)


def plain(text: str) -> str:
    """Return a text without emphasis, LaTeX's fonts and full-width signs."""
    text = unicodedata.normalize("NFKC", text)
    for _ in range(2):
        text = DRESS.sub(r" \1 ", text)
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
    for pattern in (BOXED, TAG, JSON):
        for content in reversed(pattern.findall(text)):
            found = _whole(content, letters) or _exactly(content, letters, options)
            if found:
                return found
    return []


def _whole(content: str, letters: str) -> list[str]:
    """Read a short text that is nothing but letters, or a letter before its option's text."""
    content = re.sub(r"(?i)^\s*(?:option|choice|answer)\b[\s:]*", "", content.strip().strip("\"'"))
    if len(content) > 1 and content.isupper() and set(content) <= set(letters) and sorted(set(content)) == [*content]:
        return [*content]  # AC
    first = re.match(r"\(?\[?\s*([A-Za-z])\s*(?:\)|\]|\.|:|(?=$|\s*[,/&+;]|\s+(?:or|and)\s))", content)
    if not first or first[1].upper() not in letters:
        return []
    return [first[1].upper(), *_further(content, first.start() + first[0].index(first[1]) + 1, letters)]


def _further(text: str, at: int, letters: str) -> list[str]:
    """Return the letters that stand beside one, with commas and the like between."""
    found: list[str] = []
    while (more := MORE.match(text, at)) and more[1].upper() in letters:
        if more[1].islower() and not text[at - 1].islower():
            break  # "A, a ..."
        found.append(more[1].upper())
        at = more.end(1)
    return found


def _stated(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read statements: of those that name an answer the last."""
    chosen = list[str]()
    for _, found, adds in sorted(_statements(text, letters, options), key=lambda statement: statement[0]):
        chosen = list(dict.fromkeys([*chosen, *found])) if adds else found
    return chosen


def _statements(text: str, letters: str, options: Sequence[str]) -> Iterator[tuple[int, list[str], bool]]:
    """Yield where a statement begins, the letters it names, and whether these are besides what was said before."""
    for pattern in (CONCLUDED, SAID, CHOSEN, CORRECTED):
        for stated in pattern.finditer(text):
            at, before = stated.end(), text[max(0, stated.start() - 60) : stated.start()]
            if SUPPOSED.search(before) or (pattern is SAID and DENIED.search(before)):
                continue
            if pattern is CHOSEN and REFUSED.search(before):
                continue
            found = _letter_at(text, at, letters)
            if found is not None:
                yield stated.start(), [found, *_further(text, at + 1, letters)], False
            elif pattern is not CORRECTED:
                line = re.split(r"\n|(?<=[a-z)])\.\s", text[at : at + 300])[0]
                named = _starting(line, letters, options)
                if named:
                    yield stated.start(), named, False
    for stated in RIGHT.finditer(text):
        letter, before = stated[1], text[: stated.start()]
        if letter.upper() not in letters or DOUBT.search(before[-40:]):
            continue
        if letter in "aiI" and letter != "A" and not stated[0].lstrip().startswith("("):
            continue  # an article, a person
        pair = re.search(r"\b([A-Z])\)?\s*(?:,|or|and|/)\s*\(?$", before)
        both = [pair[1].upper()] if pair and pair[1].upper() in letters else []
        yield stated.start(), [*both, letter.upper()], "also" in stated[0].split()
    for stated in LAST_IS.finditer(text):
        if stated[1] in letters:
            yield stated.start(), [stated[1]], False


def _letter_at(text: str, at: int, letters: str) -> str | None:
    """Return the letter that stands at a place, None where what stands there is a word, an article or a formula."""
    letter = text[at : at + 1]
    if letter.upper() not in letters or not letter or (at and re.match(r"[A-Za-z]", text[at - 1])):
        return None
    rest = text[at + 1 :]
    if re.match(ENDS, rest):
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
        found = LONE.fullmatch(line)
        if found and found[1].upper() in letters:
            return [found[1].upper()]
        begun = OPENING.match(line) or LAST_SENTENCE.search(line)
        if begun and begun[1] in letters:
            return [begun[1], *_further(line, begun.end(1), letters)]
        several = _whole(line, letters) if re.fullmatch(r"\W*\w(?:\W+(?:or\W+|and\W+)?\w)*\W*", line) else []
        if len(several) > 1:
            return several
    return []


def _listed(text: str, letters: str, options: Sequence[str]) -> list[str]:
    """Read options one by one: a single one, or the only one that is called right; else ``(B)``."""
    told = [(letter.upper(), word) for letter, word in INLINE.findall(text) if letter.upper() in letters]
    if len({letter for letter, _ in told}) > 1:
        called = list(dict.fromkeys(letter for letter, word in told if not re.search(NO, word, re.I)))
        return called if len(called) == 1 else []
    lines = [(letter.upper(), rest) for letter, rest in LINE.findall(text) if letter.upper() in letters]
    if len({letter for letter, _ in lines}) == 1:
        return [] if re.match(r"(?i)(?:is\s+)?(?:wrong|incorrect)\b", lines[0][1]) else [lines[0][0]]
    right = {letter for letter, rest in lines if re.search(YES, rest, re.I) and not re.search(NO, rest, re.I)}
    if len(right) == 1:
        return [right.pop()]
    if lines:
        return []
    for line in reversed(text.splitlines()):
        bracketed = {letter.upper() for letter in BRACKETED.findall(line) if letter.upper() in letters}
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
    if sum(LINE.match(line) is not None for line in lines) > 1 and LINE.match(lines[-1]):
        return []  # options are listed, and the last of them is no answer
    last = comparable(lines[-1]) if lines else ""
    there = {
        letter: option
        for letter, option in zip(letters, map(comparable, options), strict=False)
        if option
        and any(
            not NOT_THESE.search(last[: found.start()])
            for found in re.finditer(rf"(?<!\w){re.escape(option)}(?!\w)", last)
        )
    }
    return [
        letter
        for letter, option in there.items()
        if not any(option != other and option in other for other in there.values())
    ]


def comparable(text: str) -> str:
    """Return an option's text as it is compared: in one case and spacing, without a full stop."""
    return re.sub(r"\s+", " ", plain(text).strip().strip(".").strip().casefold())
