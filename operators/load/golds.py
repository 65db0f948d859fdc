"""From what a data set has as an answer to the gold that verifiers read: one text, several, or none.

``answer`` is one text. Where there are several, ``verification`` has ``{"answers": {"any": [...]}}`` (each of them is
right) or ``{"answers": {"all": [...]}}`` (all of them are asked for). NaN, empty texts and lists, and nulls are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from operators.load.rows import Rows, parsed, text_of
from operators.verify.extract import extract_answer
from schemas.errors import BadInput
from schemas.later import pl

_ALL_WHERE = ("is_multiple_answer", "multiple_answers")
"""Columns that say of a row that all of its answers are asked for."""
_ONE_OF = ("value", "answer", "ground_truth", "final_answer", "target", "text", "label", "spans", "gold")
"""Fields of an object that hold its answer; the first that is there counts."""
_ALIASES = ("aliases", "answer_aliases", "alternatives")
NO_GOLD = ("", "nan", "<na>")
"""Texts that tables have where there is nothing."""

Kind = Literal["any", "all"]


@dataclass(frozen=True)
class Golds:
    """The answers of all rows.

    Attributes:
        answer: texts, null where there is none.
        more: what goes to ``verification`` besides, by row from 0.
        absent: where a row had something that is no gold.
    """

    answer: pl.Series
    more: dict[int, dict[str, Any]]
    absent: pl.Series


def read_golds(rows: Rows, column: str, source: str, *, whole: bool = False, integral: bool = False) -> Golds:
    """Return the golds of a column, or of a field of one (``reward_model.ground_truth``).

    Args:
        whole: the texts are whole answers: only what they end in, marked as such, is a gold.
        integral: floats are whole numbers that a table with gaps turned into floats.

    Raises:
        BadInput: a value in which no answer is found; with its row.
    """
    name, _, field = column.partition(".")
    every = next((column for column in _ALL_WHERE if column in rows.columns), None)
    if name in rows.table.columns and not rows.is_nested(name) and not field and every is None:
        values = rows.table[name]
        texts = final_answers(_as_text(values, integral), whole=whole)
        plain = texts.str.strip_chars().str.to_lowercase()
        absent = texts.is_not_null() & plain.is_in(NO_GOLD) | (texts.is_null() & values.is_not_null() & (not whole))
        none = texts.is_null() | plain.is_in(NO_GOLD)
        return Golds(texts.set(none, None), _tolerances(rows, ~none, {}, source), absent)
    found = [_at(value if every is None else parsed(value), field) for value in rows.values(name)]
    asks_all = [value is True or value in ("true", "True", 1) for value in rows.values(every)] if every else None
    lists: list[list[str]] = []
    kinds: list[Kind] = []
    for number, value in enumerate(found, 1):
        kind: Kind = "all" if asks_all is not None and asks_all[number - 1] else "any"
        try:
            texts, kind = _texts(value, kind)
            if kind == "all" and len(texts) == 1 and asks_all is not None:
                texts = listed(texts[0])
        except ValueError as error:
            raise BadInput(
                f"'{source}', row {number}: no answer is found in '{column}' ({_short(value)}): {error}. Set "
                "load.answer_column, or leave it out with load.columns={" + name + ": null}"
            ) from error
        lists.append(texts)
        kinds.append(kind)
    flat = pl.DataFrame({"row": range(len(lists)), "text": lists}, schema={"row": pl.Int64, "text": pl.List(pl.String)})
    flat = flat.explode("text").with_columns(final_answers(flat.explode("text")["text"], whole=whole).alias("text"))
    flat = flat.filter(flat["text"].is_not_null() & ~flat["text"].str.strip_chars().str.to_lowercase().is_in(NO_GOLD))
    answers: list[str | None] = [None] * len(lists)
    more: dict[int, dict[str, Any]] = {}
    grouped = flat.group_by("row", maintain_order=True).agg("text")
    for row, texts in cast("Iterable[tuple[int, list[str]]]", grouped.iter_rows()):
        kind = kinds[row]
        distinct = list(dict.fromkeys(texts)) if kind == "any" else texts
        answers[row] = distinct[0] if kind == "any" else ", ".join(distinct)
        if len(distinct) > 1:
            more[row] = {"answers": {kind: distinct}}
    answer = pl.Series("answer", answers, dtype=pl.String)
    absent = answer.is_null() & pl.Series([value is not None for value in found], dtype=pl.Boolean)
    for row, tolerance in _tolerances(rows, answer.is_not_null(), more, source).items():
        more[row] = {**more.get(row, {}), **tolerance}
    return Golds(answer, more, absent)


def final_answers(values: pl.Series, *, whole: bool = False) -> pl.Series:
    """Return the final answers: of a whole solution (``####``, a last box, a last line) what it ends in.

    Args:
        whole: what has no such end is no answer; else it is taken as it stands.
    """
    text = pl.col("text")
    table = pl.DataFrame({"text": values.cast(pl.String)})
    found = [text.str.contains(mark, literal=True).any().alias(mark) for mark in ("####", "box", "\n")]
    marked, boxed, lines = (bool(there) for there in table.select(found).row(0))
    ends: list[pl.Expr] = []  # of what some text has: the expressions are long, and plain answers have none of it
    if marked:
        ends.append(extract_answer(text, ("hashes",)).str.replace_all(r"(\d),(\d{3})", "$1$2"))
    if boxed:
        ends.append(extract_answer(text, ("boxed",)))
    if whole:
        ends.append(extract_answer(text, ("phrase",)))
    elif lines:
        ends.append(pl.when(text.str.contains("\n", literal=True)).then(extract_answer(text, ("phrase",))))
    if marked and not whole:  # GSM8K's mark with nothing behind it: no gold
        ends.append(pl.when(text.str.contains(r"(?m)^\s*####\s*\z")).then(pl.lit("")))
    ends.append(pl.lit(None, dtype=pl.String) if whole else text)
    return table.select(pl.coalesce(ends).alias("text")).to_series()


def _as_text(values: pl.Series, integral: bool) -> pl.Series:
    if values.dtype.is_float():
        values = values.fill_nan(None)
        if integral:
            values = values.cast(pl.Int64)
    return values.cast(pl.String)


def is_integral(values: pl.Series) -> bool:
    """Whether floats are whole numbers that have become floats because some are missing, as pandas does it."""
    if not values.dtype.is_float():
        return False
    there = values.fill_nan(None).drop_nulls()
    return 0 < len(there) < len(values) and bool(((there.abs() < 2**53) & (there == there.floor())).all())


def _at(value: Any, field: str) -> Any:
    if not field:
        return value
    value = parsed(value)
    found = cast("Mapping[str, Any]", value).get(field) if isinstance(value, Mapping) else None
    several = parsed(found)  # Skywork's: a list of golds, as text
    if isinstance(several, list) and all(isinstance(item, str) for item in several):  # pyright: ignore[reportUnknownVariableType]
        return several  # pyright: ignore[reportUnknownVariableType]
    return found


def _texts(value: Any, kind: Kind) -> tuple[list[str], Kind]:
    """Return the texts of an answer, and how several of them are meant.

    Raises:
        ValueError: an object in which no answer is known.
    """
    if isinstance(value, Mapping):
        given = {str(key): item for key, item in cast("Mapping[Any, Any]", value).items() if item is not None}
        for name in ("any", "all"):
            if set(given) == {name}:
                return _texts(given[name], name)[0], name
        if not given:
            return [], kind
        field = next((name for name in _ONE_OF if name in given), None)
        if field is None:
            raise ValueError(f"its fields are {sorted(given)}")
        texts = _texts(given[field], kind)[0]
        for name in _ALIASES:
            texts += _texts(given.get(name), kind)[0]
        return texts, kind
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [text for item in items for text in _texts(item, kind)[0]], kind
    text = text_of(value)
    return [] if text is None else [text], kind


def listed(text: str) -> list[str]:
    """Return the answers that one text gives, which stand between commas or semicolons outside of all brackets."""
    whole = text.strip()
    if whole.startswith("$") and whole.endswith("$") and whole.count("$") == 2:
        whole = whole[1:-1]
    depth, begin, formula = 0, 0, False
    found: list[str] = []
    for place, letter in enumerate(whole):
        if letter == "$":
            formula = not formula
        depth += (letter in "([{") - (letter in ")]}")
        if letter in ",;" and depth == 0 and not formula:
            found.append(whole[begin:place])
            begin = place + 1
    found = [one.strip() for one in (*found, whole[begin:])]
    return found if all(found) else [text]


def _tolerances(
    rows: Rows, there: pl.Series, more: Mapping[int, dict[str, Any]], source: str
) -> dict[int, dict[str, Any]]:
    """Return how far a number may be off, where a set of problems with a ``final_answer`` says so (``error``).

    Args:
        more: rows of several golds; there an error may say one number for each.

    Raises:
        BadInput: an error that is no number, or doesn't fit the golds; with its row.
    """
    if not {"final_answer", "error"} <= set(rows.columns):
        return {}
    found: dict[int, dict[str, Any]] = {}
    for row, value in enumerate(rows.values("error")):
        given = cast("list[Any]", value) if isinstance(value, list) else (text_of(value) or "").split(",")
        texts = [text for one in given if (text := str(one).strip()).lower() not in ("", "none", "nan")]
        if not texts or not there[row]:
            continue
        golds = len(more.get(row, {}).get("answers", {}).get("all", ()))
        try:
            numbers = [float(text) for text in texts]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, golds) or min(numbers) < 0:
            raise BadInput(
                f"'{source}', row {row + 1}: 'error' is {_short(value)}: it must be a number, or one for each of the "
                f"{max(1, golds)} answers. Mend it, or leave it out with load.columns={{error: null}}"
            )
        if any(numbers):
            found[row] = {"math": {"tolerance": {"absolute": numbers[0] if len(numbers) == 1 else numbers}}}
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
