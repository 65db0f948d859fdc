"""Finding the answer in a completion, as Polars expressions over a column of texts.

Rules are tried in order; the first that matches a text gives its answer. Within a rule the last match counts, because
models restate and correct themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import polars as pl

Rule = Literal["tag", "boxed", "hashes", "phrase", "last_number", "last_line", "whole"]

DEFAULT_RULES: tuple[Rule, ...] = ("boxed", "hashes", "phrase", "last_number")


def _braces(depth: int) -> str:
    """Return a pattern for text with balanced braces nested ``depth`` deep (regular expressions can't recurse)."""
    plain = r"(?:[^{}\\]|\\.)*"  # an escaped brace is text
    inner = plain
    for _ in range(depth):
        inner = rf"{plain}(?:\{{{inner}\}}{plain})*"
    return inner


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+\b|\d+)(?:\.\d+)?|\.\d+"
NUMBER = rf"[-+\x{{2212}}]?\$?(?:\\[dt]?frac\{{-?\d+\}}\{{\d+\}}|(?:{_DIGITS})(?:\s*/\s*\d+)?)\\?%?"
_BOXED = rf"\\(?:boxed|fbox)\s*(?:\{{({_braces(6)})\}}|(\w+))"
_PHRASE = r"(?im)(?:answer|^A)(?:\s+is|\s*=|\s*:)[:\s]*"

_PATTERNS: dict[str, str] = {
    "tag": r"(?s)<answer>\s*(.*?)\s*</answer>",
    # a number or formula: four hashes also begin a Markdown heading
    "hashes": r"####[ \t]*([-+$\\(\[{.\d][^\n]*)",
    "last_line": r"([^\n]*\S)\s*$",
    "whole": r"(?s)^\s*(.*?)\s*$",
}
_MARKERS: dict[str, str] = {"tag": "<answer>", "boxed": "box", "hashes": "####"}
"""What a text must contain for a rule to find anything."""
_PHRASE_MATH = _PHRASE + r"(?:\*\*)?(\$[^$\n]+\$|\\\([^\n]*?\\\))"
_PHRASE_NUMBER = _PHRASE + rf"(?:\*\*)?({NUMBER})(?:\*\*)?(?:\s*$|[.,;!](?:\s|$)|\s+[A-Za-z])"
_PHRASE_TEXT = _PHRASE + r"(\S[^\n]*?)\s*(?:\.(?:\s|$)|$)"
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


def extract_answers(texts: pl.Series, rules: Iterable[Rule] = DEFAULT_RULES, pattern: str | None = None) -> pl.Series:
    """Return what ``extract_answer`` finds in each text, faster.

    A rule only sees the texts that those before it left, and that have its marker (``####``); what it finds is short
    and repeats, so each distinct finding is read once.
    """
    rest = texts.rename("text").to_frame().with_row_index()
    if pattern is not None:
        return rest.select(extract_answer(pl.col("text"), pattern=pattern)).to_series()
    every: list[pl.DataFrame] = []
    for rule in rules:
        marker = _MARKERS.get(rule)
        seen = rest if marker is None else rest.filter(pl.col("text").str.contains(marker, literal=True))
        found = seen.select("index", found=_find(pl.col("text"), rule)).filter(pl.col("found").is_not_null())
        distinct = found.select(pl.col("found").unique()).with_columns(answer=_tidy(_read(pl.col("found"), rule)))
        answers = found.join(distinct.filter(pl.col("answer").is_not_null()), on="found").select("index", "answer")
        every.append(answers)
        if len(answers):
            rest = rest.join(answers, on="index", how="anti", maintain_order="left")
    every.append(rest.select("index", answer=pl.lit(None, dtype=pl.String)))
    return pl.concat(every).sort("index")["answer"]


def _find(text: pl.Expr, rule: Rule) -> pl.Expr:
    """Return the last place of each text where a rule matches."""
    match rule:
        case "boxed":
            return _last_match(text, _BOXED)
        case "phrase":
            return _last_match(text, _PHRASE_TEXT)
        case "last_number":
            return _number(text)
        case _:
            return _last_match(text, _PATTERNS[rule])


def _read(found: pl.Expr, rule: Rule) -> pl.Expr:
    """Return the answer in what ``_find`` found."""
    match rule:
        case "boxed":
            # its argument is a balanced group, or a single token as in "\boxed 5"
            inner = pl.coalesce(found.str.extract(_BOXED, 1), found.str.extract(_BOXED, 2))
            return inner.str.replace(rf"^\s*{_BOXED}\s*$", "$1")  # a box in a box
        case "phrase":
            return _phrase(found)
        case "last_number":
            return found
        case _:
            return _group(found, _PATTERNS[rule])


def _phrase(found: pl.Expr) -> pl.Expr:
    """Return what follows "the answer is": a formula, a number, or words (of a sentence its last number)."""
    words = found.str.extract(_PHRASE_TEXT, 1)
    sentence = pl.when(words.str.contains(_MANY_WORDS) & ~words.str.contains("\\", literal=True)).then(_number(words))
    return pl.coalesce(found.str.extract(_PHRASE_MATH, 1), found.str.extract(_PHRASE_NUMBER, 1), sentence, words)


def _number(text: pl.Expr) -> pl.Expr:
    """Return the last number. A sign belongs to it only where no operand stands before: 16-3 ends in 3."""
    return (pl.lit(" ") + text).str.extract_all(rf"[^\w.)\]}}](?:{NUMBER})").list.last().str.slice(1)


def _last_match(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.extract_all(pattern).list.last()


def _group(found: pl.Expr, pattern: str) -> pl.Expr:
    return found.str.extract(pattern, 1)


def _tidy(answer: pl.Expr) -> pl.Expr:
    """Strip what surrounds an answer: space, Markdown emphasis, dollar signs, inline-math brackets, a full stop."""
    tidy = answer.str.strip_chars().str.replace_all(r"\*\*|__|`", "")
    tidy = tidy.str.replace(r"^\\[(\[]\s*(.*?)\s*\\[)\]]\.?$", "$1")
    tidy = tidy.str.strip_chars(" \t\n").str.replace(r"\.$", "").str.strip_chars(" $\t\n")
    return pl.when(tidy == "").then(None).otherwise(tidy)
