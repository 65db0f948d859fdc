"""What a source is refused for, and what people are told about it."""

from __future__ import annotations

from schemas.errors import BadInput
from schemas.later import pl


class Notes:
    """What is to be told about a source: sentences, and counts of rows with the first of them."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._rows = self._unanswered = 0
        self._first = 0
        self._read: str | None = None
        self._free: list[str] = []

    def say(self, sentence: str) -> None:
        """Tell something once."""
        self._said[sentence] = None

    def count(self, what: str, row: int, rows: int = 1) -> None:
        """Count ``rows`` more rows of a kind, of which ``row`` is the first."""
        known, first = self._counted.get(what, (0, row))
        self._counted[what] = (known + rows, min(first, row))

    def count_where(self, what: str, mask: pl.Series) -> None:
        """Count the rows where ``mask`` is true."""
        rows = int(mask.sum())
        if rows:
            self.count(what, int(mask.arg_true()[0]) + 1, rows)

    def count_answers(self, absent: pl.Series, given: pl.Series | None, read: str | None, free: list[str]) -> None:
        """Count the rows that nothing can judge.

        Args:
            absent: where a row has neither an answer nor a verification.
            given: where a row had something that is no answer (an empty text, NaN).
            read: the column of answers.
            free: columns that nothing was read from.
        """
        if absent.any() and not self._unanswered:
            self._first = self._rows + int(absent.arg_true()[0]) + 1
        if given is not None:
            self.count_where(f"whose '{read}' is empty or NaN: that is no answer", given & absent)
        self._rows += len(absent)
        self._unanswered += int(absent.sum())
        self._read, self._free = read, free

    def _answers(self) -> list[str]:
        if not self._unanswered:
            return []
        if self._unanswered == self._rows:
            named = f"'{self._read}' has none" if self._read else "no column is known to hold any"
            others = f" (there are {', '.join(self._free[:20])})" if self._free else ""
            return [
                f"NO PROBLEM HAS AN ANSWER: {named}, so no verifier that compares can tell right from wrong. Set "
                f"load.answer_column{others}; samples that were drawn earlier are then used again"
            ]
        rest = self._unanswered
        return [
            f"{rest:,} of {self._rows:,} problems have no answer (the first is row {self._first:,}): they are sampled, "
            "and not judged"
        ]

    def sentences(self) -> tuple[str, ...]:
        """Return all there is to tell."""
        counts = [
            f"{rows:,} row{'s' if rows > 1 else ''} {what} ({'the first is ' if rows > 1 else ''}row {first:,})"
            for what, (rows, first) in self._counted.items()
        ]
        return (*self._said, *counts, *self._answers())


def refuse_empty(prompts: pl.Series, source: str, column: str) -> None:
    """Refuse problems that ask nothing.

    Raises:
        BadInput: with the first such row and how many there are.
    """
    empty = (prompts.is_null() | (prompts.str.strip_chars() == "")).arg_true()
    if len(empty):
        raise BadInput(
            f"'{source}', row {empty[0] + 1}: '{column}' is empty ({len(empty)} such row(s)); fill or remove it"
        )


def refuse_unprintable(ids: pl.Series, source: str) -> None:
    """Refuse ids with a NUL: no command line, no database and no file name can hold one.

    Raises:
        BadInput: with the first such row and how many there are.
    """
    found = ids.str.contains("\0", literal=True).fill_null(False).arg_true()
    if len(found):
        raise BadInput(
            f"'{source}', row {found[0] + 1}: its id {ids[found[0]]!r} has a NUL character in it ({len(found)} such "
            "row(s)); take it out"
        )


def refuse_duplicates(problems: pl.DataFrame, source: str, has_ids: bool) -> None:
    """Refuse problems of the same id or the same content.

    Raises:
        BadInput: with the rows, their ids and the remedy.
    """
    for column, what in (("problem_id", "problem_id"), ("problem_key", "content")):
        if column == "problem_id" and not has_ids:
            continue  # made from the content: that is what is there twice
        if problems[column].n_unique() == len(problems):
            continue
        numbered = problems.select("problem_id", "problem_key").with_row_index("row", offset=1)
        twice = numbered.filter(pl.col(column).is_duplicated())
        first = twice.filter(pl.col(column) == twice[column][0])
        rows, ids = first["row"].to_list()[:5], first["problem_id"].to_list()[:5]
        remedy = " or give each its own id" if column == "problem_id" else ""
        settings = (
            "load.duplicates=first (the first of each is taken)"
            if column == "problem_id"
            else "load.duplicates=first (the first of each is taken) or =keep (each is a problem of its own)"
        )
        raise BadInput(
            f"'{source}': the same {what} in rows {rows} (problem_id {ids}); {len(twice)} rows are affected. "
            f"Remove the copies{remedy}, or set {settings}"
        )


def without_copies(problems: pl.DataFrame, has_ids: bool, notes: Notes) -> pl.DataFrame:
    """Return the first of the problems with one id, or one content."""
    numbered = problems.with_row_index("row", offset=1)
    for column, what in (("problem_key", "the content"), ("problem_id", "the problem_id")):
        if column == "problem_id" and not has_ids:
            continue
        copy = ~numbered[column].is_first_distinct()
        if copy.any():
            notes.count(
                f"left out: {what} of an earlier row (load.duplicates=first)",
                numbered["row"].filter(copy)[0],
                int(copy.sum()),
            )
            numbered = numbered.filter(~copy)
    return numbered.drop("row")
