"""One spelling for what can be written in many: LaTeX, Unicode and plain text become the same plain LaTeX.

After ``tidy`` a text has ``-`` for every dash, ``\\frac{a}{b}`` for every fraction, ``^{2}`` for raised digits, one
blank for any space, and the words of ``\\text{...}`` as plain words.
"""

# signs that look like others are what it is about
# ruff: noqa: RUF001

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

LONGEST = 1000
"""Characters of the longest answer that is read; what is longer is compared as text."""

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_SIGNS = {
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/", "π": r"\pi ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "≈": r"\approx ", "°": r"^\circ ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "⟨": r"\langle ", "⟩": r"\rangle ",
    "、": ",", "∶": ":", "∣": "|", "“": "", "”": "", "‘": "'", "’": "'", "∗": "*", "…": r"\ldots ",
    "。": ".", "º": r"^\circ ", "˚": r"^\circ ",
}  # fmt: skip
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d\u2796\u2500"
SIGNS = str.maketrans({**_SIGNS, **dict.fromkeys(_DASHES, "-"), "\u2795": "+"})
_GREEK = re.compile(r"[\u0391-\u03a9\u03b1-\u03c9]")
_VULGAR = re.compile(r"(\d*)\s*([\u00bc-\u00be\u2150-\u215e\u2189])")
_ROOT = re.compile(r"(?:√|\\sqrt|(?<![a-zA-Z\\])sqrt)\s*(?=\()|√\s*|(?<![a-zA-Z\\])sqrt(?=\{|\d)|∛\s*")
_ROOT_OF = re.compile(r"(\\sqrt(?:\[3\])?)\s*(\d+(?:\.\d+)?|\\[a-z]+|[a-z])")
_TEXT = re.compile(
    r"\\(?:text(?:normal|bf|it|rm|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|operatorname\*?|bold(?:symbol)?|underline|rm|bf|it|sf|tt)\s*"
    r"\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}"
)
_UPRIGHT = re.compile(r"\\(?:math(?:rm|bf|it|sf)|text|rm|bf)\s+([A-Za-z])(?![A-Za-z])")
_FUNCTIONS = (
    "arcsin|arccos|arctan|arccot|arcsec|arccsc|sinh|cosh|tanh|coth|"
    "sin|cos|tan|cot|sec|csc|ln|log|lg|exp|gcd|lcm|max|min"
)
_FUNCTION = re.compile(rf"(?:{_FUNCTIONS})")
_PLAIN_FUNCTION = re.compile(rf"(?<![a-zA-Z\\])({_FUNCTIONS})(?=\s*[(\d\\]|\s+[a-z]\b)")
_SPACE = re.compile(
    r"\\[,;:> ]|\\(?:quad|qquad|thinspace|medspace|enspace|space)(?![a-zA-Z])|~|\\hspace\*?\{[^}]*\}|\s+"
)
_NOTHING = re.compile(
    r"\\(?:left|right|middle)(?![a-zA-Z])\.?|\\[bB]ig{1,2}[lrm]?(?![a-zA-Z])|\\(?:displaystyle|textstyle|limits|nolimits)"
    r"(?![a-zA-Z])|\\phantom\{[^}]*\}|\\mathstrut(?![a-zA-Z])"
)
_GROUPED = re.compile(
    r"(?<=\d)(?:\{,\}|\\text\{,\}|,?\s*\\!\s*,?\s*|,\s*\\!\s*|\\[,;: ]|['\u2009\u202f\u00a0])(?=\d{3}(?!\d))"
)
_POINTED = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?(?![\d.,]\d)")
"""Thousands grouped by points: ``1.234.567,5``."""
_PART = r"(\d|[A-Za-z]|\\[A-Za-z]+|\{(?:[^{}]|\{[^{}]*\})*\})"
_FRACTION = re.compile(rf"\\[dtc]?frac(?:(?=[\d\\{{])|\s+)\s*{_PART}\s*{_PART}")
_ENDED = re.compile(r"(?:\s*\\(?:checkmark|blacksquare|square|Box|qed|implies|Rightarrow)(?![a-zA-Z])|\s*[■□✓✔∎])+\s*$")
"""What follows an answer to say that it is one."""
_HEADED = re.compile(r"^(\u2060?[A-Za-z][A-Za-z ]{2,40}?)\s*:\s*(?=[-\d\\($])(?!.*[:,])")
_SPELLED = re.compile(
    r"(?i)^(?:(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|and)[\s-]*)+\((\d[\d,.]*)\)"
)
"""``twelve (12)``."""
_SQUARE = {"": "", "平方": "square ", "立方": "cubic "}
_MEASURES = {
    "毫米": "mm", "厘米": "cm", "公分": "cm", "分米": "dm", "千米": "km", "公里": "km", "米": "m", "毫克": "mg",
    "千克": "kg", "公斤": "kg", "克": "g", "毫升": "mL", "升": "L", "小时": "h", "小時": "h", "時間": "h", 
    "分钟": "min", "分鐘": "min", "秒": "s", "天": "day", "元": "yuan", "度": "deg", "円": "yen",
}  # fmt: skip
_MEASURED = re.compile(rf"(?<=\d)\s*(平方|立方)?({'|'.join(_MEASURES)})(?![\u4e00-\u9fff])")
_OLD_FONT = re.compile(r"\{\s*\\(?:rm|bf|it|sf|tt)\s+([^{}]*)\}")
_OVER = re.compile(r"\{([^{}]*)\\(over|choose)(?![a-zA-Z])([^{}]*)\}|^([^{}=]*)\\(over|choose)(?![a-zA-Z])([^{}]*)$")
_CHOOSE = re.compile(r"\\[dt]?binom\s*(\d|\{[^{}]*\})\s*(\d|\{[^{}]*\})")
_ANSWER = re.compile(r"^\u2060?(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|:|=)\s*:?\s*", re.IGNORECASE)
_IN_WORDS = (
    (re.compile(r"(?i)(?:the\s+)?(?:empty|null)\s+set|the\s+set\s+is\s+empty"), r"\emptyset"),
    (
        re.compile(r"(?i)(?:x\s*(?:\\in|is)\s*)?(?:all|any|every)\s+(?:the\s+)?reals?(?:\s+numbers?)?(?:\s+x)?"),
        r"\mathbb{R}",
    ),
)
"""Words that mean a set, where they are the whole answer."""
_MATRIX = re.compile(r"\\begin\{|\\\\")
_COMMANDS = {
    r"\leqslant": r"\le", r"\geqslant": r"\ge", r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\lt": "<",
    r"\gt": ">", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]", r"\colon": ":",
    r"\varnothing": r"\emptyset", r"\degree": r"^\circ", r"\dfrac": r"\frac", r"\tfrac": r"\frac",
    r"\cfrac": r"\frac", r"\ast": "*", r"\div": "/",
    r"\sfrac": r"\frac", r"\nicefrac": r"\frac", r"\lor": r"\text{ or }", r"\vee": r"\text{ or }",
    r"\land": r"\text{ and }",
    r"\percent": "%", r"\euro": "€", r"\pounds": "£", r"\yen": "¥", r"\mid": "|", r"\dots": r"\ldots",
}  # fmt: skip
_COMMAND = re.compile("(" + "|".join(re.escape(name) for name in _COMMANDS) + r")(?![a-zA-Z])")
DOLLAR = r"\dollar "
"""What stands for a dollar sign that means money; those that delimit formulas are gone."""
SAID = "\u2060"
"""Stands before the words of ``\\text{...}``: behind a number they are a label, whatever they look like."""


def tidy(answer: str) -> str:
    """Return an answer in one spelling."""
    text = _money(answer.strip())
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+", lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    text = _POINTED.sub(lambda number: number[0].translate({ord("."): ",", ord(","): "."}), text)
    text = _GROUPED.sub(",", _VULGAR.sub(_vulgar, text))
    text = unicodedata.normalize("NFKC", text.translate(SIGNS)).translate(SIGNS)
    text = _GREEK.sub(_greek, text)
    text = _COMMAND.sub(lambda name: _COMMANDS[name[1]] + " ", text).replace("\\%", "%").replace("\\!", "")
    text = _MEASURED.sub(lambda parts: f" {_SQUARE[parts[1] or '']}{_MEASURES[parts[2]]}", text)
    text = _OVER.sub(_over, _OLD_FONT.sub(r"\\text{\1}", text))
    text = _unwrapped(_roots(_NOTHING.sub("", text)))
    for _ in range(3):  # one inside another
        text = _TEXT.sub(_text, text)
    text = _UPRIGHT.sub(r"\1", text)
    text = _FRACTION.sub(lambda parts: rf"\frac{{{_bare(parts[1])}}}{{{_bare(parts[2])}}}", text)
    text = _CHOOSE.sub(lambda parts: rf"\binom{{{_bare(parts[1])}}}{{{_bare(parts[2])}}}", text)
    text = re.sub(r"\\log\s*_\s*\{?\s*e\s*\}?", r"\\ln ", text)
    text = re.sub(r"\\mathbb\s+?([A-Z])(?![A-Za-z])", r"\\mathbb{\1}", text)
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}", r"^\\circ", text)
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi", text)
    text = re.sub(r"(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", r"\\infty", text)
    text = _PLAIN_FUNCTION.sub(r"\\\1", text).replace("**", "^")
    text = text if _MATRIX.search(text) else _SPACE.sub(" ", text)
    text = re.sub(
        r"^(?:[=:,]|\\approx|(?i:about|approximately|approx\.?|roughly|around|nearly|exactly)\s|~(?=\s*\d))+",
        "",
        text.strip(),
    )
    text = re.sub(r"(?<!\.)[.,;]+$", "", _ANSWER.sub("", _ENDED.sub("", text.strip()))).strip()
    text = _SPELLED.sub(r"\1", _HEADED.sub(r"\1=", text))
    return next((sign for words, sign in _IN_WORDS if words.fullmatch(text.replace(SAID, ""))), text)


def _over(found: re.Match[str]) -> str:
    above, how, below = found.groups()[:3] if found[2] else found.groups()[3:]
    return rf"\{'frac' if how == 'over' else 'binom'}{{{above.strip()}}}{{{below.strip()}}}"


def _money(text: str) -> str:
    """Tell dollars from the signs around formulas, and take those away."""
    text = re.sub(r"^\\[(\[](.*)\\[)\]]$", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"(?:US|U\.S\.)\s*(?=\\?\$)", "", text).replace("\\$", DOLLAR)
    if text.count("$") % 2:
        text = re.sub(r"\$(?=\s*-?[\d.])", lambda _: DOLLAR, text, count=1)
    return text.replace("$", "")


def _vulgar(found: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", found[2]).partition("\N{FRACTION SLASH}")
    return rf"{found[1]}\frac{{{above}}}{{{below}}}"


def _greek(found: re.Match[str]) -> str:
    name = unicodedata.name(found[0]).split()
    letter = name[-1] if name[1] == "SMALL" else name[-1].capitalize()
    return f"\\{letter.lower() if name[1] == 'SMALL' else letter} "


def _roots(text: str) -> str:
    """Write ``√3``, ``\\sqrt(3)`` and ``sqrt(3)`` as ``\\sqrt{3}``."""
    while (found := _ROOT.search(text)) is not None:
        root = r"\sqrt[3]" if "∛" in found[0] else r"\sqrt"
        rest = text[found.end() :]
        end = _closing(rest) if rest.startswith("(") else None
        inner = rest if end is None else f"{{{rest[1:end]}}}{rest[end + 1 :]}"
        if end is None and rest.startswith("("):
            inner = rest[1:]  # it never closes: not to be found again
        text = text[: found.start()] + root + inner
    return _ROOT_OF.sub(r"\1{\2}", text)


def _closing(text: str) -> int | None:
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return at
    return None


def _text(found: re.Match[str]) -> str:
    inner = found[1].strip()
    if inner in ("e", "i"):
        return f" {inner} "  # the numbers, set upright
    minutes = inner == "min" and found.string[: found.start()].rstrip()[-1:].isdigit()
    if _FUNCTION.fullmatch(inner) and not minutes:
        return f"\\{inner} "
    if inner.startswith("-"):
        return inner  # x\text{-axis}
    marked = found[0].startswith(r"\text") and re.match(r"(?!(?:and|or|if|for|where)\b)[A-Za-z(]", inner)
    return f" {SAID if marked else ''}{inner} "


def _bare(argument: str) -> str:
    return argument[1:-1].strip() if argument.startswith("{") else argument


def _unwrapped(text: str) -> str:
    """Take away braces and quotation marks around everything."""
    text = text.strip()
    text = text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text
    while text.startswith("{") and text.endswith("}") and "{" not in text[1:-1] and "}" not in text[1:-1]:
        text = text[1:-1].strip()
    return text


@lru_cache(maxsize=4096)
def text_key(answer: str) -> str:
    """Return the key of an answer that is only text: in one spelling and case, without spaces but between digits.

    Of a very long one only the beginning and a hash: a key is kept for each sample.
    """
    if len(answer) > LONGEST:
        return (
            f"{answer[:40].casefold()}...{hashlib.blake2b(answer.encode(errors='replace'), digest_size=12).hexdigest()}"
        )
    # between digits a space says something: 3 1/2 isn't 31/2
    return re.sub(r"(?<!\d) +| +(?!\d)", "", tidy(answer).replace(SAID, "").casefold())
