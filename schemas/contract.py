"""Row contracts: declared once (``schemas.columns``), checked by dataframely before every write.

``validate`` is strict (exact columns, every rule, and dtypes but for casts that lose nothing) and guards what is
written. ``conform`` is lenient and serves what users bring: absent nullable columns, extra columns, numbers as text.
Both tell everything that is wrong at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from schemas.columns import Column
from schemas.conversation import turns_dtype
from schemas.errors import BadInput, ContractViolation
from schemas.explained import explanations
from schemas.identity import completion_hashes
from schemas.later import pl
from schemas.messages import NotATurn, conversations


@dataclass(frozen=True)
class Columns:
    """The columns of a contract that an operator reads; nothing else is loaded for it."""

    contract: type[Contract]
    names: tuple[str, ...]


MEANINGS = {
    "problem_key": "The problem's identity: a hash of what it is.",
    "problem_id": "The name by which people know the problem.",
    "sample_index": "Which of the problem's samples it is, from 0.",
    "prompt": "What is asked.",
    "run_id": "The run that wrote it.",
    "prompt_tokens": "Tokens read, by the engine's own count.",
    "cached_prompt_tokens": "Those of them that the engine's cache already had.",
    "completion_tokens": "Tokens written, reasoning included, by the engine's own count.",
    "episode": "Which run of the strategy for this problem it is from.",
    "chosen": "Whether the sample is the one row that its episode stands for.",
    "method": "The method that it is about.",
    "metric": "What is measured.",
    "value": "How much it is.",
    "low": "Lower end of the 95% interval, for problems like these.",
    "high": "Upper end of the 95% interval, for problems like these.",
    "same_low": "Lower end of the 95% interval for these very problems, sampled anew.",
    "same_high": "Upper end of the 95% interval for these very problems, sampled anew.",
    "n_problems": "Problems that it is about.",
    "n_samples": "Samples that it is about.",
    "note": "What else is to be known about it.",
    "k": "Samples a problem.",
    "layer": "The layer of the model, from 0.",
    "expert": "The expert, from 0.",
    "position": "The token's place in its text, from 0.",
}
"""What columns mean that mean the same wherever they are; a contract may say more of its own."""


class Contract:
    """Base of all row contracts: a class whose attributes are columns, and rules about whole rows.

    Class attributes:
        added: columns that the contract got after files of it were written; all of them may be null. Files without them
            are older, not damaged.
        index: the column by which rows are known beside their problem, where they are facts of a store.
        repeats: whether many rows have the same problem and index, and may come one after the other.
    """

    added: ClassVar[frozenset[str]] = frozenset()
    index: ClassVar[str] = "sample_index"
    repeats: ClassVar[bool] = False
    _columns: ClassVar[dict[str, Column]] = {}
    _rules: ClassVar[dict[str, Callable[[Any], pl.Expr]]] = {}

    def __init_subclass__(cls) -> None:
        own = vars(cls).items()
        for name, value in own:
            if type(value).__module__.startswith("dataframely"):
                raise TypeError(f"{cls.__name__}.{name}: columns and rules of contracts are those of schemas.columns")
        columns = {name: value for name, value in own if isinstance(value, Column)}
        rules = {name: value for name, value in own if getattr(value, "is_rule", False)}
        cls._columns, cls._rules = {**cls._columns, **columns}, {**cls._rules, **rules}

    @classmethod
    def columns(cls) -> dict[str, Column]:
        """Return the columns by name, in their order."""
        return cls._columns

    @classmethod
    def rules(cls) -> dict[str, Callable[[Any], pl.Expr]]:
        """Return the rules about whole rows by name."""
        return cls._rules

    @classmethod
    def column_names(cls) -> list[str]:
        return list(cls._columns)

    @classmethod
    def primary_key(cls) -> list[str]:
        """Return the names of the columns by which a row is known."""
        return [name for name, column in cls._columns.items() if column.primary_key]

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Return what the columns mean, by name."""
        return {name: text for name, text in MEANINGS.items() if name in cls._columns} | explanations(cls)

    @classmethod
    def select(cls, *names: str) -> Columns:
        """Name the columns an operator reads of this dataset (all of them when none is named).

        Raises:
            ValueError: a name that the contract doesn't have.
        """
        unknown = set(names) - set(cls.column_names())
        if unknown:
            raise ValueError(f"{cls.__name__} has no column {sorted(unknown)}; it has {cls.column_names()}")
        return Columns(cls, names or tuple(cls.column_names()))


@cache
def _checked(contract: type[Contract]) -> Any:
    """Return dataframely's schema of a contract."""
    import dataframely as dy

    def as_told(rule: Callable[[Any], pl.Expr]) -> Any:
        return dy.rule()(lambda _: rule(contract))

    columns = {name: column.checked() for name, column in contract.columns().items()}
    rules = {name: as_told(rule) for name, rule in contract.rules().items()}
    return type(contract.__name__, (dy.Schema,), {**columns, **rules})


@cache
def polars_schema(contract: type[Contract]) -> dict[str, pl.DataType]:
    """Return column name -> dtype, in the contract's order."""
    return {name: column.dtype for name, column in contract.columns().items()}


def complete(table: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """Return a contract's columns of a table in order; those that the contract got later are null where absent."""
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in polars_schema(contract).items()
              if name in contract.added and name not in table.columns]  # fmt: skip
    return table.with_columns(absent).select(list(polars_schema(contract)))


def validate(table: pl.DataFrame, contract: type[Contract], stage: str) -> pl.DataFrame:
    """Return ``table`` with the contract's columns in order, sorted by key; or refuse it.

    Values that are the same in the contract's dtype are cast (``cast_without_loss``); columns that the contract got
    later, and that may be null, are added where they are absent.

    Raises:
        ContractViolation: names stage, columns, row keys and rules: everything that is wrong. A column that the
            contract has not, or lacks, is a violation too: contracts are never widened silently.
    """
    expected = polars_schema(contract)
    later = contract.added
    table = table.with_columns(pl.lit(None, expected[name]).alias(name) for name in later if name not in table.columns)
    missing = [name for name in expected if name not in table.columns]
    extra = [name for name in table.columns if name not in expected]
    wrong: list[str] = []
    if missing or extra:
        wrong.append(
            f"{contract.__name__} lacks column(s) {missing or 'none'} and has unknown column(s) {extra or 'none'}; the "
            f"contract is {list(expected)}"
        )
    unusable = set(missing)
    columns: list[pl.Series] = []
    for name, dtype in expected.items():
        column, why = cast_without_loss(table[name], dtype) if name not in unusable else (None, "")
        if column is None and name not in unusable:
            unusable.add(name)
            wrong.append(f"column {contract.__name__}.{name} {why}")
        columns.append(pl.Series(name, [None], dtype).new_from_index(0, len(table)) if column is None else column)
    table = pl.DataFrame(columns)
    good, failure = _checked(contract).filter(table)
    if len(good) < len(table) or wrong:
        wrong += _broken_rules(failure, contract, unusable) if len(good) < len(table) else []
        if wrong:
            raise ContractViolation(f"stage {stage}: " + _listed(wrong))
    key = contract.primary_key()
    return table.sort(key) if key else table


def _listed(found: list[str]) -> str:
    return found[0] if len(found) == 1 else f"{len(found)} things are wrong:" + "".join(f"\n- {one}" for one in found)


def _broken_rules(failure: Any, contract: type[Contract], unusable: set[str]) -> list[str]:
    """Describe each broken rule with the key and value of the first row that breaks it.

    Rules that look at columns which can't be used are left out: these are told already.
    """
    details: pl.DataFrame = failure.details()
    found: list[str] = []
    for rule, count in sorted(failure.counts().items(), key=lambda item: -item[1]):
        column = rule.split("|")[0] if "|" in rule else ", ".join(contract.primary_key())
        if unusable and (column in unusable or "|" not in rule):
            continue
        row = details.filter(pl.col(rule) == "invalid").row(0, named=True)
        key = {name: row[name] for name in contract.primary_key() if name not in unusable}
        value = f" is {row[column]!r}" if column in row else ""
        pattern = getattr(contract.columns().get(column), "regex", None)
        allowed = f" {pattern}" if pattern and rule.endswith("regex") else ""
        found.append(
            f"column {contract.__name__}.{column}{value} in row {key} breaks the rule "
            f"'{rule.split('|')[-1]}{allowed}' ({count} row(s))"
        )
    return found


def cast_without_loss(values: pl.Series, dtype: pl.DataType) -> tuple[pl.Series | None, str]:
    """Return ``values`` in another dtype; or None and why not.

    Numbers are cast to numbers and times to times where they come back the same (floats are rounded to the contract's
    precision); categories are texts; a column without any value can be anything; conversations are brought into their
    form (``schemas.messages``).
    """
    found = values.dtype
    if found == dtype:
        return values, ""
    if values.null_count() == len(values):
        return pl.Series(values.name, [None], dtype).new_from_index(0, len(values)), ""
    if dtype == turns_dtype():
        try:
            return conversations(values), ""
        except NotATurn as error:
            return None, f"is {found}, the contract says conversations: row {error.row + 1} {error}"
    says = f"is {found}, the contract says {dtype}"
    if found.is_nested():
        whole = _within(values, dtype)
        return whole, "" if whole is not None else says
    if not _alike(found, dtype):
        return None, says
    try:
        cast = values.cast(dtype)
        back = cast.cast(found)
    except pl.exceptions.PolarsError:
        return None, f"{says}, which can't hold all of its values"
    if dtype == pl.Float32 and found == pl.Float64:
        changed = values.is_finite() & ~cast.is_finite()
    else:
        changed = ~values.eq_missing(back)
    if changed.any():
        first = changed.arg_max() or 0
        return None, f"{says}, which can't hold all of its values ({values[first]!r} in row {first + 1})"
    return cast, ""


def _within(values: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Return lists or structs in another dtype where all that is in them can be cast without loss."""
    if isinstance(values.dtype, pl.List | pl.Array) and isinstance(dtype, pl.List):
        inner = [(values.explode(), dtype.inner)]
    elif isinstance(values.dtype, pl.Struct) and isinstance(dtype, pl.Struct):
        fields = {field.name: field.dtype for field in dtype.fields}
        if [field.name for field in values.dtype.fields] != [*fields]:
            return None
        inner = [(values.struct.field(name), kind) for name, kind in fields.items()]
    else:
        return None
    parts = [cast_without_loss(part, kind)[0] for part, kind in inner]  # pyright: ignore[reportArgumentType]
    return None if any(part is None for part in parts) else values.cast(dtype)


def _alike(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether values of one dtype may be values of another: numbers, texts, times."""
    texts = (pl.String, pl.Categorical, pl.Enum)
    return (
        (one.is_numeric() and other.is_numeric())
        or (isinstance(one, texts) and other == pl.String)
        or (isinstance(one, pl.Datetime) and isinstance(other, pl.Datetime) and one.time_zone == other.time_zone)
    )


def conform(table: pl.DataFrame, columns: Columns, source: str) -> pl.DataFrame:
    """Return the wanted columns of a user's ``table`` in the contract's dtypes.

    ``problem_id`` serves as ``problem_key`` (and the other way round) where one is absent, ``completion_hash`` is
    computed, ``verifier`` and ``scorer`` become one unnamed, absent nullable columns are null. What files without
    dtypes have as text is read as the number or truth value that it is, and a number may be a text.

    Raises:
        BadInput: needed columns are absent or can't be converted; the text tells all of them, and what was found.
    """
    found = table.columns
    dtypes = polars_schema(columns.contract)
    table = table.with_columns(_substitutes(table, columns.names))
    picked: list[pl.Series] = []
    wrong: list[str] = []
    for name in columns.names:
        if name in table.columns:
            column, why = _read_as(table[name], dtypes[name])
            if column is None:
                wrong.append(f"column '{name}' {why}")
            else:
                picked.append(column)
        elif columns.contract.columns()[name].nullable:
            picked.append(pl.Series(name, [None], dtypes[name]).new_from_index(0, len(table)))
        else:
            wrong.append(f"column '{name}' is missing; found {found}, wanted {list(columns.names)}")
    if wrong:
        raise BadInput(f"{source}: {_listed(wrong)}")
    return pl.DataFrame(picked)


def _read_as(values: pl.Series, dtype: pl.DataType) -> tuple[pl.Series | None, str]:
    """Return a user's column in the contract's dtype: as ``cast_without_loss``, and between texts and what they say."""
    if values.dtype == pl.String and (dtype.is_numeric() or dtype == pl.Boolean):
        text = values.str.strip_chars()
        text = text.set(text == "", None)
        if dtype == pl.Boolean:
            said = text.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
        else:
            said = text.cast(dtype, strict=False)
            if dtype.is_integer():
                said = said.zip_with(said.is_not_null(), text.cast(pl.Float64, strict=False).cast(dtype, strict=False))
        bad = said.is_null() & text.is_not_null()
        if bad.any():
            first = bad.arg_max() or 0
            return None, f"is text, the contract says {dtype}: row {first + 1} has {values[first]!r}"
        return said, ""
    if dtype == pl.String and values.dtype.is_numeric():
        whole, _ = cast_without_loss(values, pl.Int64())
        return (values if whole is None else whole).cast(pl.String), ""
    return cast_without_loss(values, dtype)


_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def _substitutes(table: pl.DataFrame, wanted: Iterable[str]) -> list[pl.Expr | pl.Series]:
    have = set(table.columns)
    absent = [name for name in wanted if name not in have]
    made: list[pl.Expr | pl.Series] = []
    for name in absent:
        if name == "problem_key" and "problem_id" in have:
            made.append(pl.col("problem_id").cast(pl.String).alias("problem_key"))
        elif name == "problem_id" and "problem_key" in have:
            made.append(pl.col("problem_key").cast(pl.String).alias("problem_id"))
        elif name in ("verifier", "scorer"):
            made.append(pl.lit("").alias(name))
        elif name == "status":
            made.append(pl.lit("ok").alias(name))
        elif name == "completion_hash" and "completion" in have:
            made.append(pl.Series(name, completion_hashes(table["completion"].fill_null("")), dtype=pl.Int64))
    return made
