"""The operator that reads problems: whatever people have, brought under one contract.

Columns are recognised by the names that data sets use (``names``), conversations lose the answer at their end
(``turns``), options are shown and golds are read (``options``, ``golds``). Everything that isn't recognised rides along
in ``metadata``. What can't be used is refused before anything is sampled, naming row, column and remedy; what was
counted, replaced or left out is told (``Notes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from operators.base import AnyOperator, Operator
from operators.load.before import with_before
from operators.load.checks import Notes, refuse_duplicates, refuse_empty, refuse_unprintable, without_copies
from operators.load.code_columns import CODE_COLUMNS
from operators.load.extras import json_objects, metadata_of
from operators.load.facts import Facts, facts_of, tools_of
from operators.load.generated import hugging_face_rows, human_eval_problems, reasoning_gym_tasks, shipped_rows
from operators.load.held_out import Part, part_of
from operators.load.judging import read_judging, with_more
from operators.load.names import Names, find_names, mapped
from operators.load.pieces import PieceNotes, Pieces, pieces_of
from operators.load.places import read_place
from operators.load.prompts import read_prompts
from operators.load.rows import Rows
from operators.load.telling import tell
from schemas.contract import polars_schema
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.identity import Added, digest, problem_keys, prompt_keys
from schemas.later import pl


class Load(Operator):
    """Read problems and give each its identity."""

    version: ClassVar[int] = 2
    scope = "source"
    inputs = {}
    output = Problem

    source: str
    """A path or URL (.parquet, .arrow, .jsonl, .json, .csv, .tsv, each also .gz; a folder of them), ``hf:NAME``,
    ``reasoning_gym:TASK``, ``human_eval``, or ``shipped:NAME``: questions, motions or procedures, small sets that
    studies begin with."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first N problems."""
    size: int = Field(default=50, ge=1)
    """How many problems a generated source makes."""
    seed: int = 0
    """The seed of a generated source."""
    config: dict[str, Any] = {}
    """Further settings of a generated source."""
    split: str | None = None
    """The split to read, of a folder, a JSON file or a column ``split`` that has several, or of a Hugging Face dataset
    (there ``test`` by default)."""
    prompt_column: str | None = None
    """The column with the prompt, if it isn't one of the usual names."""
    answer_column: str | None = None
    """The column with the expected answer, if it isn't one of the usual names."""
    id_column: str | None = None
    """The column by which people know a problem, if it isn't one of the usual names; otherwise rows are numbered."""
    columns: Annotated[dict[str, str | None], Added] = {}
    """Which column a part is read from, ``{prompt: my_column}``, and which are left out, ``{my_column: null}``."""
    task_type: str = "math"
    """The task type of problems that don't state one."""
    continue_last: Annotated[bool, Added] = False
    """Keep the assistant's turn at the end of a conversation: the model continues it. Otherwise it is taken for the
    answer and isn't shown."""
    duplicates: Annotated[Literal["refuse", "first", "keep"], Added] = "refuse"
    """Rows with the content of an earlier one: refuse the source, take the first of each, or keep all as problems of
    their own (their ids are then part of what they are)."""
    encoding: Annotated[str | None, Added] = None
    """What text files are written in, where it isn't UTF-8: ``latin-1``, ``cp1252``, ..."""
    holdout: Annotated[float, Added] = Field(default=0.0, ge=0.0, lt=1.0)
    """Hold out this share of the problems: what tunes (``simulate``, ``bench-engine``) leaves them out, and
    ``gristmill holdout`` asks them. The choice depends on each problem's key alone, so it is the same in every run."""
    part: Annotated[Part, Added] = "all"
    """Load only the problems that are to be tuned on, or only those that are held out."""
    made: Annotated[AnyOperator | None, Added] = None
    """Load what this operator makes of the problems, in their place: ``synthesize.rest``."""

    @field_validator("made")
    @classmethod
    def _makes_problems(cls, value: Operator | None) -> Operator | None:
        if value is not None and not (
            value.output is Problem and set(value.inputs) == {"problems"} and not value.tools
        ):
            raise ValueError(f"{value.public_name()} doesn't make problems of problems alone; synthesize.rest does")
        return value

    def run(self) -> pl.DataFrame:
        return self.read(Notes())

    def read(self, notes: Notes) -> pl.DataFrame:
        """Return the problems; ``notes`` hears what there is to tell of them.

        Raises:
            BadInput: whatever can't be used, with row, column and remedy.
        """
        rows = self.rows(notes)
        rows = rows if self.limit is None else rows.head(self.limit)
        facts = self.facts(rows)
        problems = self.normalise(rows, facts, notes)
        has_ids = self.names(rows, facts).problem_id is not None
        if self.duplicates == "first":
            problems = without_copies(problems, has_ids, notes)
        refuse_duplicates(problems, self.source, has_ids)
        return self._made_of(self._of_part(problems))

    def _made_of(self, problems: pl.DataFrame) -> pl.DataFrame:
        """Return what ``made`` makes of the problems; without it, the problems."""
        if self.made is None:
            return problems
        if self.holdout:
            raise BadInput(
                "load.made: what is made of problems can't be held out by their keys; leave load.holdout out"
            )
        return self.made.run(problems=problems.lazy() if self.made.scope == "dataset" else problems)

    def batches(self, tell: Callable[[str], None]) -> Iterator[pl.DataFrame]:
        notes = PieceNotes()
        pieces = pieces_of(self.source, notes) if self.in_pieces() else None
        try:  # what has to be known of all rows
            facts = (
                None if pieces is None else reduce(Facts.__or__, (self.facts(rows) for rows in self._limited(pieces)))
            )
        except (BadInput, UnicodeDecodeError):  # read as a whole, it says with the row what is wrong, or isn't wrong
            facts = None
        if pieces is None or facts is None:
            whole = Notes()
            yield self.read(whole)
            notes = whole
        else:
            for rows in self._limited(pieces):
                yield self._problems_of(rows, facts, notes)
                notes.before += len(rows)
        for sentence in notes.sentences():
            tell(sentence)

    def _of_part(self, problems: pl.DataFrame) -> pl.DataFrame:
        if self.part != "all" and not self.holdout:
            raise BadInput(f"load.part={self.part}: nothing is held out; say the share, load.holdout=0.2")
        return part_of(problems, self.holdout, self.part)

    def _problems_of(self, rows: Rows, facts: Facts, notes: Notes) -> pl.DataFrame:
        """Return the problems of a piece of a large file."""
        try:
            return self._of_part(self.normalise(rows, facts, notes))
        except BadInput:
            self.read(Notes())  # as a whole, it says with the row what is wrong
            raise

    def _limited(self, pieces: Pieces) -> Iterator[Rows]:
        left = self.limit
        for rows in pieces.rows():
            rows = rows if left is None else rows.head(left)
            if len(rows):
                yield rows
            left = None if left is None else left - len(rows)

    def rows(self, notes: Notes) -> Rows:
        """Return the source's rows as they are.

        Raises:
            BadInput: the source doesn't exist, can't be read or has no rows.
        """
        kind, _, name = self.source.partition(":")
        if not self.source:
            raise BadInput("load.source isn't given: say which problems, such as --set load.source=problems.jsonl")
        if kind == "reasoning_gym":
            rows = Rows(reasoning_gym_tasks(name, self.seed, self.size, self.config))
        elif self.source == "human_eval":
            rows = Rows(human_eval_problems())
        elif kind == "shipped":
            rows = Rows(shipped_rows(name))
        elif kind == "hf":
            rows = Rows(hugging_face_rows(name, self.split or "test"))
        else:
            rows = read_place(self.source, self.split, self.encoding, notes)
        if not len(rows):
            raise BadInput(f"'{self.source}' has no rows")
        return rows

    def in_pieces(self) -> bool:
        """Whether the source can be read piece by piece: no row's problem depends on other rows."""
        generated = self.source in ("", "human_eval") or self.source.partition(":")[0] in (
            "reasoning_gym",
            "hf",
            "shipped",
        )
        return (
            self.made is None
            and self.duplicates == "refuse"
            and self.encoding is None
            and self.split is None
            and not generated
        )

    def facts(self, rows: Rows) -> Facts:
        """Return what has to be known of all rows to read any of them."""
        rows, named = mapped(rows, self.columns, self.source)
        return facts_of(rows, named.get("choices"), self.source)

    def names(self, rows: Rows, facts: Facts | None = None) -> Names:
        """Return which columns serve as what.

        Raises:
            BadInput: no prompt column, a named column that isn't there, or several that could be the answer.
        """
        facts = facts or self.facts(rows)
        rows, named = mapped(rows, self.columns, self.source)
        settings = {"problem_id": self.id_column, "prompt": self.prompt_column, "answer": self.answer_column}
        named |= {target: name for target, name in settings.items() if name is not None}
        return find_names(rows, named, self.source, facts.coding, facts.options is not None)

    def prompts(self) -> pl.DataFrame:
        """Return what each row of the source asks, as ``text``, and its ``problem_id`` (null where it has none).

        Nothing is refused for being empty or there twice: for looking a source's texts up.
        """
        return self.prompts_of(self.rows(Notes()))

    def prompts_of(self, rows: Rows) -> pl.DataFrame:
        """Return what ``prompts`` does, of rows that were read before."""
        names = self.names(rows)
        found = read_prompts(mapped(rows, self.columns, self.source)[0], names, self.source, True, Notes())
        talk = pl.element().struct.field("content")
        text = found.text
        if found.messages is not None:
            whole = found.messages.to_frame("m").select(pl.col("m").list.eval(talk).list.join("\n")).to_series()
            text = whole if not names.prompt else text
        ids = rows.texts(names.problem_id, self.source) if names.problem_id is not None else None
        return pl.DataFrame({"text": text.fill_null(""), "problem_id": ids if ids is not None else [None] * len(rows)},
                            schema={"text": pl.String, "problem_id": pl.String})  # fmt: skip

    def normalise(
        self, rows: Rows | pl.DataFrame, facts: Facts | None = None, notes: Notes | None = None
    ) -> pl.DataFrame:
        """Return rows as problems, in their order.

        Args:
            facts: of the whole source, where ``rows`` are a piece of it.

        Raises:
            BadInput: an empty prompt, an answer or a verification that can't be read; with its row.
        """
        rows = Rows(rows) if isinstance(rows, pl.DataFrame) else rows
        notes = notes or Notes()
        facts = facts or self.facts(rows)
        names = self.names(rows, facts)
        rows, _ = mapped(rows, self.columns, self.source)
        prompts = read_prompts(rows, names, self.source, self.continue_last, notes)
        judging = read_judging(rows, names, facts, prompts, self.source, self.task_type)
        messages = with_before(rows, names, judging.prompt, judging.messages, self.source)
        used = names.used | {"task_type", "verification", *(CODE_COLUMNS if facts.coding else ())}
        tools, other, described = tools_of(rows)
        if other:
            told = f"whose '{described}' describe no functions: no row's are shown to the model"
            notes.count(told, other[0] + 1, len(other))
        tools = tools if facts.tools else None
        used |= {described} if tools is not None else set()
        nothing = pl.Series("", [None], dtype=pl.String).new_from_index(0, len(rows))
        out = pl.DataFrame(
            {
                "prompt": judging.prompt,
                "messages": nothing if messages is None else messages,
                "tools": nothing if tools is None else tools,
                "answer": judging.answer,
                "task_type": judging.task_type,
                "verification": with_more(json_objects(rows, "verification", self.source), judging.more),
                "metadata": metadata_of(rows, used, prompts.cut, self.source),
            }
        )
        dtypes = polars_schema(Problem)
        out = out.with_columns(pl.col(name).cast(dtypes[name]) for name in out.columns)
        refuse_empty(out["prompt"], self.source, " and ".join(names.prompt) or names.messages or "messages")
        tell(rows, names, facts, judging.absent, out, notes)
        return self._with_identity(out, rows, names).select(list(dtypes))

    def _with_identity(self, out: pl.DataFrame, rows: Rows, names: Names) -> pl.DataFrame:
        """Return problems with their id and both of their hashes."""
        out = out.with_columns(problem_keys(out), prompt_keys(out))
        short = out["problem_key"].str.head(12)
        ids = short if names.problem_id is None else rows.texts(names.problem_id, self.source)
        refuse_unprintable(ids, self.source)
        ids = ids.zip_with(ids.is_not_null(), short)
        if self.duplicates == "keep":
            if names.problem_id is None:  # equal rows are numbered
                copy = pl.Series(ids).to_frame("id").select(pl.int_range(pl.len()).over("id")).to_series()
                ids = ids.zip_with(copy == 0, ids + "-" + (copy + 1).cast(pl.String))
            hashes = {
                name: [digest([key, own]) for key, own in zip(out[name], ids, strict=True)]
                for name in ("problem_key", "prompt_key")
            }
            out = out.with_columns(pl.Series(name, values) for name, values in hashes.items())
        return out.with_columns(ids.alias("problem_id"))
