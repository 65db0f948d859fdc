"""Bare counts: how many samples each problem got and how many were right, however they were made.

Everything that pass@k needs to know of a view. Published counts can be measured with nothing else at hand, and measures
over millions of verdicts start by reducing them to this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from operators.draws import draws
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from schemas import columns
from schemas.books import Allocation
from schemas.contract import Contract
from schemas.datasets import VERDICT_STATUS, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl

DRAWN = ("ok", "unparseable", "timeout")
"""Statuses of a verdict that counts as a draw, where ``is_correct`` is known."""
SILENT = tuple(status for status in VERDICT_STATUS if status not in ("ok", "unparseable"))
UNKNOWN = "without a known answer"
LEFT_OUT = (*SILENT, UNKNOWN)
"""Why a verdict isn't a draw."""
RULE = "rule"
"""Reason of the allocations that say by what rule a problem is sampled."""
EVEN = "uniform"
"""The policy that doesn't look at results."""


class Counts(Contract):
    """n samples of a problem, c of them correct; one row per problem (and model, where several were sampled)."""

    problem_id = columns.String(nullable=False)
    n = columns.Int64(nullable=False, min=0)
    c = columns.Int64(nullable=False, min=0)
    model = columns.String(nullable=True)


class Before(Contract):
    """n samples of a problem by something similar, c of them correct; a row per problem and source (``model``)."""

    problem_key = columns.String(nullable=False)
    n = columns.Int64(nullable=False, min=0)
    c = columns.Int64(nullable=False, min=0)
    model = columns.String(nullable=True)


def count_verdicts(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Reduce verdicts to counts; an episode is one draw, and its verdict that on what it chose.

    A verdict is a draw if ``is_correct`` is known and its status is ``ok``, ``unparseable`` (an answer that can't be
    read is a wrong one) or ``timeout`` (a program that takes too long is a wrong one). ``error``, ``skipped`` and a
    ``timeout`` of the verifier's own mean that nobody knows; counted as wrong they would push pass@k down, and as right
    up, so they leave n, as do verdicts on problems without a known answer.

    Args:
        verdicts: problem_key, sample_index, is_correct, status; ``verifier`` decides where there are several.

    Returns:
        One row per problem, in order of the key: problem_id (the problem_key), n, c, with n = 0 where nothing was a
        draw; ``first``, the number of draws up to the first right one, null where there is none; and how many rows were
        left out of n, under each name in ``LEFT_OUT``.
    """
    draw = pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()
    right = draw & pl.col("is_correct").fill_null(False)
    index = pl.col("sample_index")
    silent = [((pl.col("status") == status) & ~draw).sum().cast(pl.Int64).alias(status) for status in SILENT]
    return (
        draws(one_verifier(verdicts))
        .lazy()
        .group_by(pl.col("problem_key").alias("problem_id"))
        .agg(
            draw.sum().cast(pl.Int64).alias("n"),
            right.sum().cast(pl.Int64).alias("c"),
            (draw & (index <= index.filter(right).min())).sum().cast(pl.Int64).alias("first"),
            *silent,
            pl.len().cast(pl.Int64).alias(UNKNOWN),
        )
        .with_columns(pl.col(UNKNOWN) - pl.sum_horizontal("n", *SILENT), first=pl.when(pl.col("c") > 0).then("first"))
        .sort("problem_id")
        .collect(engine="streaming")
    )


def left_out(counts: pl.DataFrame) -> str:
    """Say how many verdicts ``count_verdicts`` left out of n and why; "" if none, and of counts that came bare."""
    totals = counts.select(pl.col(LEFT_OUT).sum()).row(0, named=True)
    named = [f"{count:,} {reason}" for reason, count in totals.items() if count]
    return f"samples left out of n: {', '.join(named)}" if named else ""


def check_counts(counts: pl.DataFrame) -> None:
    """Refuse counts that can't be.

    Raises:
        BadInput: c > n, a negative number, or a problem twice (for the same model).
    """
    wrong = counts.filter((pl.col("c") > pl.col("n")) | (pl.col("c") < 0))
    if len(wrong):
        row = wrong.row(0, named=True)
        raise BadInput(
            f"counts: problem '{row['problem_id']}' has c = {row['c']} correct of n = {row['n']} samples; c must be in "
            f"[0, n] ({len(wrong)} such row(s))"
        )
    twice = counts.filter(pl.struct("problem_id", "model").is_duplicated())
    if len(twice):
        raise BadInput(
            f"counts: problem '{twice['problem_id'][0]}' occurs more than once for one model ({len(twice)} such rows); "
            "add up n and c of the same problem, or name the models in a column 'model'"
        )


FEATURE = "feature "
"""What the names of features begin with."""


def _hints() -> pl.List:
    """Return the dtype of what is known of a problem beforehand: log odds of success by source, and ``FEATURE``."""
    return pl.List(pl.Struct({"source": pl.String, "odds": pl.Float64}))


def rules_of(allocations: pl.DataFrame) -> pl.DataFrame:
    """Return what a run's log says of each problem's rule: problem_id, policies, hints.

    ``policies`` are the names of those under which it was sampled, in order, and ``hints`` what the last of them that
    was told anything was told. The last ``features`` of the hints, as the rule says, are features. What they mean is of
    one run's problems together, so features of runs that were told something else are others.
    """
    rules = allocations.filter(pl.col("count") == 0, pl.col("reason") == RULE)
    name = pl.col("rule").str.json_path_match("$.policy.name").fill_null("")
    found = rules.group_by(pl.col("problem_key").alias("problem_id")).agg(
        name.unique(maintain_order=True).alias("policies"),
        pl.col("hints").drop_nulls().last().alias("odds"),
        pl.col("rule").filter(pl.col("hints").is_not_null()).last().alias("said"),
    )
    said, place = pl.col("said"), pl.int_range(pl.len()).over("problem_id")
    odds = found.drop_nulls("odds").select(
        "problem_id",
        "odds",
        features=said.str.json_path_match("$.features").cast(pl.Int64).fill_null(0),
        whose=said.str.json_path_match("$.told").str.head(8).fill_null(""),
    )
    odds = odds.with_columns(sources=pl.col("odds").list.len().cast(pl.Int64) - pl.col("features")).explode("odds")
    feature = pl.format("{}{}/{}", pl.lit(FEATURE), "whose", place)
    source = pl.when(place < pl.col("sources")).then(place.cast(pl.String)).otherwise(feature)
    listed = _listed(odds.with_columns(source=source).select("problem_id", "source", "odds"))
    return found.drop("odds", "said").join(listed, on="problem_id", how="left")


def told(before: pl.DataFrame) -> pl.DataFrame:
    """Return problem_id and hints by the counts of some sources."""
    sources = before.group_by(pl.col("problem_key").alias("problem_id"), pl.col("model").fill_null("").alias("source"))
    counts = sources.agg(pl.sum("n", "c")).filter(pl.col("n") > 0)
    return _listed(counts.with_columns(odds=((pl.col("c") + 0.5) / (pl.col("n") - pl.col("c") + 0.5)).log()))


def _listed(odds: pl.DataFrame) -> pl.DataFrame:
    """Gather (problem_id, source, odds), a row each, to a row per problem."""
    hints = odds.drop_nulls("odds").sort("problem_id", "source").group_by("problem_id", maintain_order=True)
    return hints.agg(hints=pl.struct("source", "odds")).cast({"hints": _hints()})


class Hints(NamedTuple):
    """What a policy was told of problems before it sampled them.

    Attributes:
        odds: what each source says of each problem (``log_odds``), NaN for nothing: [problems, sources].
        features: of each problem, 0 where they aren't known: [problems, features].
    """

    odds: Floats
    features: Floats


def hints_of(partials: pl.DataFrame) -> Hints | None:
    """Return what was known of each problem beforehand; None where that is nothing."""
    rows = partials.select("hints").with_row_index("row").explode("hints").drop_nulls("hints").unnest("hints")
    if rows.is_empty():
        return None
    feature = pl.col("source").str.starts_with(FEATURE)
    odds, features = (_wide(rows.filter(some), len(partials)) for some in (~feature, feature))
    return Hints(odds, np.nan_to_num(features))


def _wide(rows: pl.DataFrame, problems: int) -> Floats:
    """Return (row, source, odds) as an array [problems, sources], NaN where there is nothing."""
    source = rows["source"].rank("dense").to_numpy().astype(np.int64) - 1
    found = np.full((problems, int(source.max(initial=-1)) + 1), np.nan)
    found[rows["row"].to_numpy(), source] = rows["odds"].to_numpy()
    return found


@dataclass(frozen=True)
class Drawn:
    """What was drawn of some problems, and by what rule.

    Attributes:
        n, c: samples, and right ones, shape [problems].
        first: when each problem was first solved, 0 where it wasn't; None where nobody knows.
        policies: under which they were sampled; none where no rule is recorded.
        hints: what chose whom to sample; None where there were none.
        stopped: whether n depended on the results.
    """

    n: Ints
    c: Ints
    first: Ints | None
    policies: tuple[str, ...]
    hints: Hints | None
    stopped: bool

    @classmethod
    def of(cls, counts: pl.DataFrame, stopped: bool | None) -> Drawn:
        """Return what ``FromCounts.partial`` found of some problems.

        Args:
            stopped: what the user says; None goes by the recorded rule and, where there is none, by whether there were
                hints.
        """
        n, c = (counts[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        policies = tuple(sorted({name for names in counts["policies"].drop_nulls() for name in names}))
        hints = None if stopped is False else hints_of(counts)
        if stopped is None:
            stopped = hints is not None or any(name != EVEN for name in policies)
        first: Ints | None = None
        if counts[LEFT_OUT[0]].null_count() == 0:
            first = counts["first"].fill_null(0).to_numpy().astype(np.int64)
        elif stopped and not (c > 1).any():  # the first success was the last sample
            first = np.where(c == 1, n, 0)
        return cls(n, c, first, policies, hints, stopped)


class FromCounts(PiecewiseOperator):
    """Base of measures that need no more than counts: of verdicts, or bare (which win where both are given).

    With verdicts may come ``allocations``, the log in which runs say by what rule problems were sampled, and
    ``before``, the counts that a policy was told of beforehand (problem_id, n, c, and ``model`` where there are several
    sources). Problems that these name and of which nothing was drawn are problems, too.
    """

    inputs = {
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status", "chosen"),
        "counts": Counts.select(),
        "allocations": Allocation.select("problem_key", "count", "reason", "rule", "hints"),
        "before": Before.select(),
    }
    optional = frozenset({"verdicts", "counts", "allocations", "before"})
    needs_judged = True

    def partial(
        self,
        verdicts: pl.DataFrame | None = None,
        counts: pl.DataFrame | None = None,
        allocations: pl.DataFrame | None = None,
        before: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return a row per problem.

        Columns: problem_id, n, c, model, first, policies (null: no rule is recorded), hints (null: there were none),
        and how many verdicts were left out of n and why. ``first`` and the columns of the reasons (``LEFT_OUT``) are
        null where counts came bare, and ``model`` is where verdicts did.

        Raises:
            BadInput: neither verdicts nor counts, or counts that can't be.
        """
        none = {"policies": pl.lit(None, pl.List(pl.String)), "hints": pl.lit(None, _hints())}
        if counts is not None:
            check_counts(counts)
            null = [pl.lit(None, pl.Int64).alias(name) for name in ("first", *LEFT_OUT)]
            return counts.with_columns(**none).with_columns(null).select(*PARTIAL)
        if verdicts is None:
            raise BadInput(f"{self.public_name()} needs 'verdicts', or 'counts' with problem_id, n and c")
        found = count_verdicts(verdicts).with_columns(**none, model=pl.lit(None, pl.String))
        if allocations is not None:
            found = _with(found, rules_of(allocations), "full")
        if before is not None:  # a log names all problems; without one, those that a policy was told of may be all
            found = _with(found, told(before), "full" if allocations is None else "left")
        drawn = pl.col("n", "c", *LEFT_OUT).fill_null(0)
        return found.with_columns(drawn).select(*PARTIAL)


PARTIAL = ("problem_id", "n", "c", "model", "first", "policies", "hints", *LEFT_OUT)
"""Columns of what a measure of counts keeps of some problems."""


def _with(counts: pl.DataFrame, known: pl.DataFrame, how: Literal["left", "full"]) -> pl.DataFrame:
    """Add what is known of problems, and (``full``) those of which nothing was drawn."""
    columns = [name for name in known.columns if name != "problem_id"]
    joined = counts.join(known, on="problem_id", how=how, coalesce=True, suffix="_known")
    return joined.with_columns(pl.coalesce(f"{name}_known", name).alias(name) for name in columns).drop(
        f"{name}_known" for name in columns
    )
