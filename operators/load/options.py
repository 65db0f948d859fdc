"""Multiple choice: options are shown under the question, and the gold is a letter.

Options stand in a list, in an object by letter, or in columns of their own; the right one is a letter, a position or
its text. Where the right one always comes first in a data set, the options are put in an order of their own.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from operators.load.names import plain
from operators.load.rows import Rows, parsed, text_of
from schemas.errors import BadInput
from schemas.identity import digest

_LISTS = ("choices", "options", "endings", "candidates", "answerchoices", "mc1targets")
_SERIES = (
    ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"),
    ("opa", "opb", "opc", "opd", "ope"),
    ("optiona", "optionb", "optionc", "optiond", "optione"),
    ("answera", "answerb", "answerc", "answerd"),
    ("choicea", "choiceb", "choicec", "choiced", "choicee"),
    ("option1", "option2", "option3", "option4", "option5"),
    ("choice1", "choice2", "choice3", "choice4", "choice5"),
    ("sol1", "sol2"),
)
_ONE_BASED = (("option1", "answer"), ("answera", "label"))
"""(first option's column, key's column): where the key counts from 1."""
_WRONG = re.compile(r"(?:incorrectanswer|distractor)s?(\d*)$")
_MARKED = re.compile(r"(?:^|[\s,;\[])['\"]?\(?([A-Ja-j])\s?[).:]\s*")
_SEVERAL = re.compile(r"\(?[A-Z]\)?(?:(?:\s*[,;/&|+]\s*|\s+and\s+|\s*)\(?[A-Z]\)?)+\.?|[a-z](?:\s*[,;]\s*[a-z])+")
"""A key of several letters: ``A,C``, ``AC``, ``(A) and (C)``."""
LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Options:
    """Where the options of a data set stand.

    Attributes:
        columns: those that hold them.
        right: a column with the right option's own text, which stands beside the wrong ones.
        base: from where a key's numbers count.
    """

    columns: tuple[str, ...]
    right: str | None = None
    base: int = 0


def find_options(rows: Rows, named: str | None) -> Options | None:
    """Return where the options of some rows stand; None for a source without options."""
    if named is not None:
        return Options((named,))
    simple = {plain(name): name for name in reversed(rows.columns)}
    for name in _LISTS:
        if name in simple and any(_read_list(value) for value in rows.values(simple[name])):
            return Options((simple[name],))
    for series in _SERIES:
        found = [simple[name] for name in series if name in simple]
        whole = found == [simple[name] for name in series[: len(found)] if name in simple]
        if len(found) > 1 and whole and _is_text(rows, found) and (series[0] != "a" or found[0] == "A"):
            base = 1 if any(series[0] == one and key in simple for one, key in _ONE_BASED) else 0
            return Options(tuple(found), base=base)
    wrong = sorted((name for name in rows.columns if _WRONG.match(plain(name))), key=plain)
    right = simple.get("correctanswer")
    if wrong and right is not None and not (len(wrong) > 1 and any(rows.is_nested(name) for name in wrong)):
        return Options(tuple(wrong), right=right)
    return None


def _is_text(rows: Rows, columns: Sequence[str]) -> bool:
    return all(not rows.is_nested(name) for name in columns)


@dataclass(frozen=True)
class Choice:
    """The options of one row.

    Attributes:
        labels: what its key may name them by.
        right: the positions of the right ones; none where the row doesn't tell.
        every: whether all of them are asked for; else any of them is right.
    """

    texts: list[str]
    labels: list[str]
    right: tuple[int, ...] = ()
    every: bool = False

    @property
    def verification(self) -> dict[str, Any]:
        if len(self.right) > 1:
            letters = [LETTERS[place] for place in self.right]
            return {"choices": self.texts, "answers": {"all" if self.every else "any": letters}}
        return {"choices": self.texts, **({"choice": self.right[0]} if self.right else {})}

    @property
    def letter(self) -> str | None:
        letters = [LETTERS[place] for place in self.right]
        return ", ".join(letters) if self.every else next(iter(letters), None)

    def shown(self, prompt: str) -> str:
        """Return the prompt with its options, unless it shows them already."""
        marked = (rf"(?:^|[\s(\[]){letter}\s?[).:\]]\s*" for letter in LETTERS)
        if all(re.search(mark + re.escape(text), prompt) for mark, text in zip(marked, self.texts, strict=False)):
            return prompt
        listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, self.texts, strict=False)]
        return prompt.rstrip() + "\n\n" + "\n".join(listed)


def read_choices(
    rows: Rows,
    options: Options,
    prompts: Sequence[Any],
    keys: Sequence[Any] | None,
    key: str | None,
    settled: Sequence[bool],
    source: str,
) -> list[Choice | None]:
    """Return the options of each row, None for rows that have none.

    Args:
        prompts: the questions; the order of options that a data set gives right ones first is drawn from them.
        keys: what the rows have as an answer.
        key: the column that this is in.
        settled: which rows are judged by something else, so that their options are none.

    Raises:
        BadInput: a key that names none of its row's options, or could name two; with the row.
    """
    columns = [rows.values(name) for name in options.columns]
    rights = None if options.right is None else rows.values(options.right)
    found: list[Choice | None] = []
    for row in range(len(rows)):
        values = [column[row] for column in columns]
        where = f"'{source}', row {row + 1}"
        if settled[row]:
            found.append(None)
            continue
        if rights is not None:
            wrong = cast("list[Any]", values[0] if len(values) == 1 and isinstance(values[0], list) else values)
            found.append(_shuffled(prompts[row], text_of(rights[row]), wrong))
            continue
        texts, labels, right = _read_list(values[0]) or ([], [], None) if len(values) == 1 else _beside(values)
        if len(texts) < 2:
            found.append(None)
            continue
        if len(texts) > len(LETTERS):
            raise BadInput(f"{where}: {len(texts)} options are more than there are letters; leave the row out")
        if right is not None:  # a data set that marks the right ones has them first
            found.append(_shuffled(prompts[row], texts[right], [text for i, text in enumerate(texts) if i != right]))
            continue
        value = None if keys is None else keys[row]
        positions, every = _positions(value, texts, labels, options.base, where, key or "answer")
        twins = [place for place, text in enumerate(texts) if not every and text in {texts[i] for i in positions}]
        found.append(Choice(texts, labels, tuple(sorted({*positions, *twins})), every))
    return found


def _beside(values: list[Any]) -> tuple[list[str], list[str], int | None]:
    texts = [text for value in values if (text := (text_of(value) or "").strip())]
    return texts, list(LETTERS[: len(texts)]), None


def _shuffled(prompt: Any, right: str | None, wrong: list[Any]) -> Choice | None:
    """Return options in an order of their own; what stands there twice is shown once."""
    right = (right or "").strip()
    others = {text for value in wrong if (text := (text_of(value) or "").strip())} - {right}
    if not right or not others:
        return None
    texts = sorted([right, *others], key=lambda text: digest([prompt, text]))
    return Choice(texts, list(LETTERS[: len(texts)]), (texts.index(right),))


def _read_list(value: Any) -> tuple[list[str], list[str], int | None] | None:
    """Return texts, labels and the marked right one of a value that lists options; None for anything else."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        texts = next((given[name] for name in ("text", "choices") if isinstance(given.get(name), list)), None)
        if texts is not None:
            right = given.get("labels") if given.get("labels") is not None else None
            marks = cast("list[Any]", right) if isinstance(right, list) else []
            labels = given.get("label")
            labels = [str(label) for label in cast("list[Any]", labels)] if isinstance(labels, list) else []
            return _checked(cast("list[Any]", texts), labels, marks.index(1) if marks.count(1) == 1 else None)
        lettered = {key: item for key, item in given.items() if item is not None}
        if lettered and all(re.fullmatch("[A-Za-z0-9]", key) for key in lettered):
            return _checked([*lettered.values()], [*lettered], None)
        return None
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    if items and all(isinstance(item, Mapping) for item in items):
        texts = [next((item[n] for n in ("text", "value", "content", "option") if n in item), None) for item in items]
        labels = [next((str(item[n]) for n in ("label", "key", "letter", "id") if n in item), "") for item in items]
        return _checked(texts, labels, None)
    return _checked(items, [], None)


def _parsed(text: str) -> Any:
    """Return what a text of options holds: JSON, Python, or options marked by letters."""
    value = parsed(text)
    if value is not text:
        return value
    marks = list(_MARKED.finditer(text))
    if [mark[1].upper() for mark in marks] != list(LETTERS[: len(marks)]) or len(marks) < 2:
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {mark[1]: text[mark.end() : end].strip(" ,;'\"]\n") for mark, end in zip(marks, ends, strict=True)}


def _checked(texts: list[Any], labels: list[str], right: int | None) -> tuple[list[str], list[str], int | None] | None:
    if len(texts) < 2 or any(text is None or isinstance(text, list | dict) for text in texts):
        return None
    plain_texts = [(text_of(text) or "").strip() for text in texts]
    marks = [re.match(r"\(?([A-J])\s?[).:]\s*", text) for text in plain_texts]
    if all(mark is not None and mark[1] == LETTERS[i] for i, mark in enumerate(marks)):  # "A) 21": the letter is ours
        plain_texts = [text[cast("re.Match[str]", mark).end() :] for text, mark in zip(plain_texts, marks, strict=True)]
    fitting = len(labels) == len(texts) == len({*labels}) and all(labels)
    return plain_texts, labels if fitting else list(LETTERS[: len(texts)]), right


def _positions(
    value: Any, texts: list[str], labels: list[str], base: int, where: str, key: str
) -> tuple[list[int], bool]:
    """Return which options a key means, and whether all of them are asked for: of a list, any is right."""
    value = parsed(value)
    if isinstance(value, list):
        places = [_position(one, texts, labels, base, where, key) for one in cast("list[Any]", value)]
        return [place for place in places if place is not None], False
    text = (text_of(value) or "").strip()
    letters = re.findall("[A-Z]|(?<![a-z])[a-z](?![a-z])", text) if _SEVERAL.fullmatch(text) else []
    known = [label.upper() for label in labels]
    places = [known.index(letter.upper()) for letter in letters if letter.upper() in known]
    if 1 < len(letters) == len({*places}) and (sorted(places) == places or "," in text) and text not in texts:
        return sorted(places), True
    place = _position(value, texts, labels, base, where, key)
    return ([] if place is None else [place]), False


def _position(value: Any, texts: list[str], labels: list[str], base: int, where: str, key: str) -> int | None:
    """Return which option a key means."""
    text = text_of(value)
    if text is None or text.strip() in ("", "-1") or text.lower() == "nan":
        return None
    text = text.strip()
    if text in labels:
        return labels.index(text)
    letter = re.fullmatch(r"\(?([A-Za-z])\)?[.:]?", text)
    if letter and letter[1].upper() in LETTERS[: len(texts)] and text not in texts:
        upper = [label.upper() for label in labels]
        return upper.index(letter[1].upper()) if letter[1].upper() in upper else LETTERS.index(letter[1].upper())
    whole = re.fullmatch(r"\(?([A-Z])\s?[).:]\s*(.+)", text, re.S)  # "A) 21"
    if whole and whole[1] in LETTERS[: len(texts)] and texts[LETTERS.index(whole[1])] == whole[2].strip():
        return LETTERS.index(whole[1])
    index = int(float(text)) - base if re.fullmatch(r"\d+(?:\.0)?", text) else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if text in texts and not number:
        at = texts.index(text)
        if index is not None and 0 <= index < len(texts) and index != at and texts.count(text) == 1:
            raise BadInput(
                f"{where}: '{key}' is '{text}', which is option {LETTERS[at]} by its text and {LETTERS[index]} by its "
                "position; write letters"
            )
        return at
    if index is not None and 0 <= index < len(texts):
        return index
    folded = [option.strip().casefold() for option in texts]
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    raise BadInput(
        f"{where}: '{key}' is '{text[:80]}', which is none of its {len(texts)} options, neither by letter, position "
        "nor text. Mend it, or leave the options out with load.columns"
    )
