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
        return _tidy(_last(text, pattern))
    return pl.coalesce([_tidy(_by_rule(text, rule)) for rule in rules])


def _by_rule(text: pl.Expr, rule: Rule) -> pl.Expr:
    if rule == "boxed":
        # the last \boxed; its argument is a balanced group, or a single token as in "\boxed 5"
        last = text.str.extract_all(_BOXED).list.last()
        inner = pl.coalesce(last.str.extract(_BOXED, 1), last.str.extract(_BOXED, 2))
        return inner.str.replace(rf"^\s*{_BOXED}\s*$", "$1")  # a box in a box
    if rule == "phrase":
        return _phrase(text)
    if rule == "last_number":
        return _number(text)
    return _last(text, _PATTERNS[rule])


def _phrase(text: pl.Expr) -> pl.Expr:
    """Return what follows the last "the answer is": a formula, a number, or words (of a sentence its last number)."""
    last = text.str.extract_all(_PHRASE_TEXT).list.last()
    words = last.str.extract(_PHRASE_TEXT, 1)
    sentence = pl.when(words.str.contains(_MANY_WORDS) & ~words.str.contains("\\", literal=True)).then(_number(words))
    return pl.coalesce(last.str.extract(_PHRASE_MATH, 1), last.str.extract(_PHRASE_NUMBER, 1), sentence, words)


def _number(text: pl.Expr) -> pl.Expr:
    """Return the last number. A sign belongs to it only where no operand stands before: 16-3 ends in 3."""
    return (pl.lit(" ") + text).str.extract_all(rf"[^\w.)\]}}](?:{NUMBER})").list.last().str.slice(1)


def _last(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.extract_all(pattern).list.last().str.extract(pattern, 1)


def _tidy(answer: pl.Expr) -> pl.Expr:
    """Strip what surrounds an answer: space, Markdown emphasis, dollar signs, inline-math brackets, a full stop."""
    tidy = answer.str.strip_chars().str.replace_all(r"\*\*|__|`", "")
    tidy = tidy.str.replace(r"^\\[(\[]\s*(.*?)\s*\\[)\]]\.?$", "$1")
    tidy = tidy.str.strip_chars(" \t\n").str.replace(r"\.$", "").str.strip_chars(" $\t\n")
    return pl.when(tidy == "").then(None).otherwise(tidy)
