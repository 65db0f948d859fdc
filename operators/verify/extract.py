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
    inner = r"[^{}]*"
    for _ in range(depth):
        inner = rf"[^{{}}]*(?:\{{{inner}\}}[^{{}}]*)*"
    return inner


NUMBER = r"[-+\x{2212}]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?%?"

_PATTERNS: dict[str, str] = {
    "tag": r"(?s)<answer>\s*(.*?)\s*</answer>",
    "boxed": rf"\\(?:boxed|fbox)\s*(?:\{{({_braces(6)})\}}|(\w+))",
    "hashes": r"####[ \t]*([^\n]+)",
    "phrase": r"(?im)(?:answer|^A)(?:\s+is|\s*=|\s*:)[:\s]*(\S[^\n]*?)\s*(?:\.(?:\s|$)|$)",
    "last_number": rf"({NUMBER})",
    "last_line": r"([^\n]*\S)\s*$",
    "whole": r"(?s)^\s*(.*?)\s*$",
}


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
        last = text.str.extract_all(_PATTERNS["boxed"]).list.last()
        return pl.coalesce(last.str.extract(_PATTERNS["boxed"], 1), last.str.extract(_PATTERNS["boxed"], 2))
    return _last(text, _PATTERNS[rule])


def _last(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.extract_all(pattern).list.last().str.extract(pattern, 1)


def _tidy(answer: pl.Expr) -> pl.Expr:
    """Strip what surrounds an answer: space, Markdown emphasis, dollar signs, inline-math brackets, a full stop."""
    tidy = answer.str.strip_chars().str.replace_all(r"\*\*|__|`", "")
    tidy = tidy.str.replace(r"^\\[(\[]\s*(.*?)\s*\\[)\]]\.?$", "$1")
    tidy = tidy.str.strip_chars(" \t\n").str.replace(r"\.$", "").str.strip_chars(" $\t\n")
    return pl.when(tidy == "").then(None).otherwise(tidy)
