"""Finding the answer in a completion, as Polars expressions over a column of texts.

Rules are tried in order; the first that matches a text gives its answer. Within a rule the last match counts, because
models restate and correct themselves.
"""

# full-width signs are what it is about
# ruff: noqa: RUF001

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from operators.verify.reading.units import writings
from schemas.later import pl

Rule = Literal["tag", "boxed", "hashes", "phrase", "last_number", "last_line", "whole"]

DEFAULT_RULES: tuple[Rule, ...] = ("boxed", "hashes", "phrase", "last_number")


def _braces(depth: int) -> str:
    """Return a pattern for text with balanced braces nested ``depth`` deep (regular expressions can't recurse)."""
    plain = r"(?:[^{}\\]|\\.)*"  # an escaped brace is text
    inner = plain
    for _ in range(depth):
        inner = rf"{plain}(?:\{{{inner}\}}{plain})*"
    return inner


_GROUPS = r"(?:,|\{,\}|\\,|\\!,?|,\\!|[ '\x{a0}\x{2009}\x{202f}])"
"""What may stand between three digits and three."""
_DIGITS = rf"(?:\d{{1,3}}(?:\.\d{{3}}){{2,}}(?:,\d+)?\b|\d{{1,3}}(?:{_GROUPS}\d{{3}})+\b|\d+)(?:\.\d+)?|\.\d+"
_SIGN = r"[-+\x{2010}-\x{2015}\x{2212}\x{fe63}\x{ff0b}\x{ff0d}\x{2796}]"
_HALF = r"[ap]\.?\s?m\b\.?"
_POWER = r"(?:[eE][-+]?\d+|\s*(?:\\times|\\cdot|[x×*])\s*10\s*\^\s*\{?-?\d+\}?)"
_BEHIND = (
    r"(?:_\{?\d+\}?|\s*\\?%|\s+(?:(?i:per\s?cent)|million|billion|trillion|thousand|hundred|dozen)\b|\s*[万萬亿億만억])"
)
NUMBER = (
    rf"{_SIGN}?\$?(?:\\[dt]?frac\{{-?\d+\}}\{{\d+\}}|\d{{1,2}}:\d{{2}}(?:\s*(?i:{_HALF}))?|\d{{1,2}}\s?(?i:{_HALF})|"
    rf"(?:{_DIGITS})(?:\s*/\s*\d+|{_POWER})?){_BEHIND}?"
)
_UNITS = "|".join(writings())
_UNIT = rf"(?:(?:square|cubic|sq\.?|cu\.?)\s+)?(?:{_UNITS})\b(?:\^\{{?-?\d\}}?|[²³])?"
_MEASURED = rf"{_SIGN}?(?:{_DIGITS})\s*{_UNIT}"
QUANTITY = rf"(?:{_MEASURED},?\s+(?:and\s+)?)?{NUMBER}(?:\s*-?\s*{_UNIT}(?:(?:\s*/\s*|\s+per\s+){_UNIT})?)?"
"""A number with the unit behind it, or a sum of two: ``2 hours and 30 minutes``."""
_BOXED = rf"\\(?:boxed|fbox)\s*(?:\{{({_braces(6)})\}}|(\w+))"
_ADVERBS = (
    r"(?:(?:therefore|thus|then|hence|so|simply|just|clearly|exactly|precisely|indeed|equal\s+to|now|finally|given\s+by)"
    r"\b[,:\s]*)*"
)
_PHRASE = (
    rf"(?im)(?:answers?|^A|答案|回答)(?:\s+(?:is|are|would\s+be|must\s+be|will\s+be|should\s+be)|\s*[=:：是为為])"
    rf"[:：\s]*{_ADVERBS}"
)
_PLACE = (
    r"(?:steps?|parts?|cases?|sections?|stages?|phases?|methods?|equations?|eqs?\.?|formulas?|theorems?|lemmas?|"
    r"examples?|figures?|tables?|schritt|étape|paso)"
)
_HEADING = rf"(?i)^\s*####[ \t]*\**(?:\(?\d{{1,2}}(?:\.\d+)*[.):]+\**[ \t]+\S|\d{{1,2}}(?:st|nd|rd|th)[ \t]+{_PLACE}\b)"
"""A heading with a number, which is no answer: ``#### 2. Conclude``."""
_TITLE = r"(?m)^[ \t]*#{1,6}[ \t]*\**\d{1,2}(?:\.\d+)*\**[ \t]+(?:[-\x{2013}\x{2014}:]+[ \t]+)?\**[A-Z][a-z][^\n]*\n"
"""A heading with a number and no stop behind it, an answer only at the end: ``#### 2.1 Solve``, ``#### 10 Dollars``."""
_NUMBERED = (
    rf"(?i)(?m)(^[ \t]*(?:#{{1,6}}|[-*+>])?[ \t]*(?:\*\*|__|[*\[(])?[ \t]*|"
    rf"\b(?:in|from|by|see|using|of|per|to|with|and)\s+|\()"
    rf"(?:{_PLACE}\s*\(?\d+(?:\.\d+)*(?:\s+of\s+\d+)?|\d{{1,2}}(?:st|nd|rd|th)\s+{_PLACE}|(?:步骤|步驟)\s*\d+|第\s*\d+\s*步)\b?"
)
"""A place in the text that has a number: ``Step 2``, ``by equation (3)``."""
_LISTED = r"(?m)^([ \t]*(?:#{1,6}[ \t]*)?\**)\(?\d{1,2}(?:\.\d+)*[.):]+(\**[ \t]+\S)"
"""What begins an element of a list, or a numbered heading."""
_LIST = r"(?m)^[ \t]*(?:\**\(?1[.)]|#{1,6}[ \t]*\**\(?\d{1,2}(?:\.\d+)*[.):])"

_PATTERNS: dict[str, str] = {
    "tag": r"(?s)<answer>\s*(.*?)\s*</answer>",
    # a number or formula: four hashes also begin a Markdown heading
    "hashes": rf"####[ \t]*\**((?:{_SIGN}|[$\\(\[{{.€£¥\d])[^\n]*)",
    "last_line": r"([^\n]*\S)\s*$",
    "whole": r"(?s)^\s*(.*?)\s*$",
}
_MARKERS: dict[str, str] = {"tag": "<answer>", "boxed": "box", "hashes": "####"}
"""What a text must contain for a rule to find anything."""
_PHRASE_MATH = _PHRASE + r"(?:\*\*)?(\$[^$\n]+\$|\\\([^\n]*?\\\))"
_END = r"(?:\*\*)?(?:\s*$|[.;!。；！](?:\s|$)|,(?:\s*$|\s+[A-Za-z])|[，。]|\s+[A-Za-z])"
_PHRASE_LIST = _PHRASE + rf"(?:\*\*)?({NUMBER}(?:(?:\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+){NUMBER})+){_END}"
_ABBREVIATED = r"\b(?:Dr|Mr|Mrs|Ms|St|Mt|Ft|Prof|Sr|Jr|vs|Gen|Lt|Col|Capt|Rev|Sen|Gov|Pres)\.\s"
"""After these a stop doesn't end a sentence."""
_PHRASE_TEXT = _PHRASE + rf"((?:{_ABBREVIATED}|\S)(?:{_ABBREVIATED}|[^\n])*?)\s*(?:\.(?:\s|$)|$)"
_MANY_WORDS = r"(?:[A-Za-z]+\s+){3}"


def extract_answer(text: pl.Expr, rules: Iterable[Rule] = DEFAULT_RULES, pattern: str | None = None) -> pl.Expr:
    """Return the answer found in each text, null where no rule matches.

    Args:
        rules: tried in order.
        pattern: a regular expression with one group that replaces the rules (a task's own).
    """
    if pattern is not None:
        return _tidy(_group(_last_match(text, pattern), pattern))
    return pl.coalesce([_tidy(_read(_find(text, rule), rule)) for rule in rules])


def extract_answers(
    texts: pl.Series, rules: Iterable[Rule] = DEFAULT_RULES, pattern: str | None = None, number: str = NUMBER
) -> pl.Series:
    """Return what ``extract_answer`` finds in each text, faster.

    A rule only sees the texts that those before it left, and that have its marker (``####``); what it finds is short
    and repeats, so each distinct finding is read once.

    Args:
        number: what of a number in prose is taken: ``NUMBER``, or ``QUANTITY`` with its unit.
    """
    rest = texts.rename("text").to_frame().with_row_index()
    if pattern is not None:
        return rest.select(extract_answer(pl.col("text"), pattern=pattern)).to_series()
    every: list[pl.DataFrame] = []
    for rule in rules:
        marker = _MARKERS.get(rule)
        seen = rest if marker is None else rest.filter(pl.col("text").str.contains(marker, literal=True))
        found = seen.select("index", found=_find(pl.col("text"), rule, number)).filter(pl.col("found").is_not_null())
        distinct = found.select(pl.col("found").unique()).with_columns(
            answer=_tidy(_read(pl.col("found"), rule, number))
        )
        answers = found.join(distinct.filter(pl.col("answer").is_not_null()), on="found").select("index", "answer")
        every.append(answers)
        if len(answers):
            rest = rest.join(answers, on="index", how="anti", maintain_order="left")
    every.append(rest.select("index", answer=pl.lit(None, dtype=pl.String)))
    return pl.concat(every).sort("index")["answer"]


def _find(text: pl.Expr, rule: Rule, number: str = NUMBER) -> pl.Expr:
    """Return the last place of each text where a rule matches."""
    match rule:
        case "boxed":
            return _last_match(text, _BOXED)
        case "phrase":
            return _last_match(text, _PHRASE_TEXT)
        case "hashes":
            lines = text.str.strip_chars_end().str.replace_all(_TITLE, "\n").str.extract_all(_PATTERNS[rule])
            return lines.list.eval(pl.element().filter(~pl.element().str.contains(_HEADING))).list.last()
        case "last_number":
            return _number(_without_numbering(text), number)
        case _:
            return _last_match(text, _PATTERNS[rule])


def _read(found: pl.Expr, rule: Rule, number: str = NUMBER) -> pl.Expr:
    """Return the answer in what ``_find`` found."""
    match rule:
        case "boxed":
            # its argument is a balanced group, or a single token as in "\boxed 5"
            inner = pl.coalesce(found.str.extract(_BOXED, 1), found.str.extract(_BOXED, 2))
            return inner.str.replace(rf"^\s*{_BOXED}\s*$", "$1")  # a box in a box
        case "phrase":
            return _phrase(found, number)
        case "last_number":
            return found
        case _:
            return _group(found, _PATTERNS[rule])


def _phrase(found: pl.Expr, number: str) -> pl.Expr:
    """Return what follows "the answer is": a formula, a number, or words (of a sentence its last number)."""
    words = found.str.extract(_PHRASE_TEXT, 1)
    sentence = pl.when(words.str.contains(_MANY_WORDS) & ~words.str.contains("\\", literal=True)).then(
        _number(words, number)
    )
    several = found.str.extract(_PHRASE_LIST, 1)
    single = found.str.extract(_PHRASE + rf"(?:\*\*)?({number}){_END}", 1)
    return pl.coalesce(found.str.extract(_PHRASE_MATH, 1), several, single, sentence, words)


def _without_numbering(text: pl.Expr) -> pl.Expr:
    """Take away the numbers of headings, steps and the elements of a list, which are none of the answer's."""
    text = text.str.strip_chars_end().str.replace_all(_TITLE, "\n").str.replace_all(_NUMBERED, "$1")
    return pl.when(text.str.contains(_LIST)).then(text.str.replace_all(_LISTED, "$1$2")).otherwise(text)


def _number(text: pl.Expr, number: str) -> pl.Expr:
    """Return the last number. A sign belongs to it only where no operand stands before: 16-3 ends in 3.

    Letters of scripts that are written without blanks may stand beside it.
    """
    return (pl.lit(" ") + text).str.extract_all(rf"[^A-Za-z0-9_.)\]}}](?:{number})").list.last().str.slice(1)


def _last_match(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.extract_all(pattern).list.last()


def _group(found: pl.Expr, pattern: str) -> pl.Expr:
    return found.str.extract(pattern, 1)


def _tidy(answer: pl.Expr) -> pl.Expr:
    """Strip what surrounds an answer: space, Markdown emphasis, dollar signs, inline-math brackets, a full stop."""
    tidy = answer.str.strip_chars()
    emphasized = tidy.str.contains(r"^(?:\*\*|__)|(?:\*\*|__)[.,:]?$")
    powers = tidy.str.replace_all(r"([A-Za-z0-9)])\*\*(\(?-?[A-Za-z0-9])", "$1^$2")  # x**2
    tidy = pl.when(emphasized).then(tidy).otherwise(powers).str.replace_all(r"\*\*|__|`", "")
    tidy = tidy.str.replace(r"^\\[(\[]\s*(.*?)\s*\\[)\]]\.?$", "$1")
    tidy = tidy.str.strip_chars(" \t\n").str.replace(r"\.$", "").str.strip_chars(" $\t\n")
    return pl.when(tidy == "").then(None).otherwise(tidy)
