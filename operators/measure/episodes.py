"""Episodes measured: how often what they chose is right, how alike their rows are, and what they took.

Rows of one episode aren't independent draws: copies of one path, siblings, what was given up. So nothing here counts
rows as draws. What the chosen row is worth is the strategy's pass@1; that some row is right is an oracle's choice among
them. How many independent rows an episode's are worth is told by how alike they are within it (one-way ANOVA of being
right, over the episodes of a problem; sums of squares are pooled within problems, so that problems that are hard or
easy don't look like episodes that are).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from operators.base import Operator
from operators.measure.alike import Alike
from operators.measure.counts import DRAWN
from operators.measure.intervals import BLOCK, ENDS, new_problems
from operators.select.classes import one_verifier
from operators.select.majority import MajorityVote
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Sample, Verdict
from schemas.episodes import Episode, EpisodeMeasure
from schemas.errors import BadInput
from schemas.later import Floats, np, pl

KEY = ["problem_key", "episode"]
BILL = (
    *("calls", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
    *("scorer_passes", "scorer_tokens", "tokens"),
)
SHARES = ("accuracy", "any_right", "vote", "vote_distinct", "found_nothing")
NOTES = {
    "accuracy": "of what episodes chose: pass@1 of the strategy. k episodes cost k bills",
    "any_right": "some row is right: an oracle's choice over paths, not pass@k",
    "vote": "the majority of an episode's rows, copies included",
    "vote_distinct": "the majority of an episode's rows, of equal texts one",
    "tokens": "read and written, by all roles",
}


class Row(NamedTuple):
    """One measure."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    same_low: float | None = None
    same_high: float | None = None
    n: int = 0
    n_problems: int = 0
    note: str = ""


class MeasureEpisodes(Operator):
    """Measure the episodes of each strategy: means over problems of means over their episodes.

    Intervals resample problems with all their episodes; those of these very problems need two episodes of each. An
    episode whose chosen row can't be judged (error, skipped) leaves n, one that found nothing is wrong.

    ``rho`` is the correlation of being right within an episode, ``n_eff`` the number of independent rows whose mean
    would be as certain, and ``k_any`` the number of independent samples of which as often some one is right.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "episodes": Episode.select(),
        "verdicts": Verdict.select(
            *(*SAMPLE_KEY, "verifier", "problem_id", "predicted_answer", "answer_key", "is_correct", "status"),
            *("episode", "chosen"),
        ),
        "samples": Sample.select(*SAMPLE_KEY, "completion_hash"),
    }
    optional = frozenset({"verdicts", "samples"})
    output = EpisodeMeasure

    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the intervals' random draws: the same seed, the same intervals."""

    def run(
        self, episodes: pl.LazyFrame, verdicts: pl.LazyFrame | None = None, samples: pl.LazyFrame | None = None
    ) -> pl.DataFrame:
        """Return one row per strategy and metric.

        Raises:
            BadInput: there are no episodes.
        """
        table = episodes.with_columns(
            tokens=pl.col("prompt_tokens") + pl.col("completion_tokens") + pl.col("scorer_tokens"),
            found_nothing=pl.col("chosen").is_null(),
        ).collect(engine="streaming")
        if table.is_empty():
            raise BadInput("measure.episodes: there are no episodes; they come from a sampling stage with a strategy")
        judged = None
        if verdicts is not None:
            rows = one_verifier(verdicts).filter(pl.col("episode").is_not_null())
            if samples is not None:
                rows = rows.join(samples, on=SAMPLE_KEY, how="left")
            judged = rows.collect(engine="streaming")
            table = table.join(_right(judged), on=KEY, how="left", maintain_order="left")
        found: list[dict[str, Any]] = []
        for (strategy,), own in table.sort("strategy", *KEY).group_by("strategy", maintain_order=True):
            mine = None if judged is None else judged.join(own.select(KEY), on=KEY, how="semi")
            found += [{"strategy": strategy, **row._asdict()} for row in self._rows(own, mine)]
        return pl.DataFrame(found, schema=polars_schema(EpisodeMeasure), orient="row")

    def _rows(self, table: pl.DataFrame, judged: pl.DataFrame | None) -> Iterator[Row]:
        for name in SHARES:
            if name in table.columns:
                yield self._mean(table.select(*KEY, value=pl.col(name).cast(pl.Float64)), name)
        if judged is not None:
            yield from self._alike(judged)
        numbers = ("finals", "distinct_texts", "distinct_answers", "lineages", *BILL)
        for name in (name for name in numbers if name in table.columns):
            yield self._mean(table.select(*KEY, value=pl.col(name).cast(pl.Float64)), name)
        for ending in table["ended_by"].unique().sort().to_list():
            value = (pl.col("ended_by") == ending).cast(pl.Float64)
            yield self._mean(table.select(*KEY, value=value), f"ended_by.{ending}", share=True)
        names = _names(table["note"])
        notes = table["note"].str.json_decode(pl.Struct(dict.fromkeys(names, pl.Float64))) if names else pl.Series()
        for name in names:
            values = table.select(KEY).with_columns(value=notes.struct.field(name))
            yield self._mean(values, f"note.{name}")._replace(note="of the episodes that noted it")

    def _mean(self, table: pl.DataFrame, metric: str, share: bool = False) -> Row:
        """Return the mean over problems of the mean over episodes, of what is known."""
        each = (
            table.drop_nulls("value")
            .group_by("problem_key", maintain_order=True)
            .agg(mean=pl.col("value").mean(), var=pl.col("value").var(), n=pl.len())
        )
        if each.is_empty():
            return Row(metric, None, note="nothing is known")
        means, problems = each["mean"].to_numpy(), len(each)
        value = float(means.mean())
        if share or metric in SHARES:
            column = means[:, None]
            low, high = (float(end[0]) for end in new_problems(column, column, self.bootstrap, self.seed))
        else:
            low, high = (float(end) for end in np.quantile(self._weights(problems) @ means, ENDS))
        same_low = same_high = None
        if each["var"].null_count() == 0:
            wide = 1.96 * float(np.sqrt((each["var"] / each["n"]).to_numpy().sum())) / problems
            same_low, same_high = value - wide, value + wide
            if share or metric in SHARES:
                same_low, same_high = max(0.0, same_low), min(1.0, same_high)
        return Row(
            metric, value, min(low, value), max(high, value), same_low, same_high,
            int(each["n"].sum()), problems, NOTES.get(metric, ""),
        )  # fmt: skip

    def _weights(self, problems: int) -> Floats:
        """Return weights of problems for each replicate, of sum 1: shape [bootstrap, problems]."""
        replicates = min(self.bootstrap, max(100, BLOCK // problems))
        rng = np.random.default_rng(self.seed)
        return rng.multinomial(problems, [1.0 / problems] * problems, size=replicates) / problems

    def _alike(self, judged: pl.DataFrame) -> Iterator[Row]:
        rows = judged.filter(_drawn()).select(*KEY, right=pl.col("is_correct").cast(pl.Float64))
        alike = Alike.of(rows)
        about = {"n": alike.episodes, "n_problems": alike.problems}
        replicates = alike.rhos(self._weights(alike.problems)) if alike.problems else np.empty(0)
        low, high = (None, None) if alike.rho is None or not len(replicates) else np.quantile(replicates, ENDS).tolist()
        why = "" if alike.rho is not None else alike.why
        yield Row("rho", alike.rho, low, high, **about, note=why)
        ends = (None, None) if low is None or high is None else (alike.n_eff(high), alike.n_eff(low))
        value = None if alike.rho is None else alike.n_eff(alike.rho)
        yield Row("n_eff", value, *ends, **about, note=why or "of the mean alone; for some one right see k_any")
        k_any, reason = alike.k_any()
        yield Row("k_any", k_any, **about, note=reason)


def _names(notes: pl.Series) -> list[str]:
    found = notes.str.extract_all(r'"([^"]+)":').explode().drop_nulls().unique().sort()
    return [name.strip('":') for name in found.to_list()]


def _drawn() -> pl.Expr:
    return pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()


def _right(judged: pl.DataFrame) -> pl.DataFrame:
    """Return what the verdicts say of each episode: accuracy, any_right, distinct_answers, vote, vote_distinct."""
    own = _drawn() & pl.col("chosen").fill_null(False)
    told = judged.group_by(KEY).agg(
        accuracy=pl.col("is_correct").filter(own).first(),
        any_right=pl.when(own.any()).then(pl.col("is_correct").filter(_drawn()).any()),
        distinct_answers=pl.coalesce("answer_key", "predicted_answer").filter(pl.col("status") == "ok").n_unique(),
    )
    votes = told.join(_voted(judged, "vote"), on=KEY, how="left")
    if "completion_hash" not in judged.columns:
        return votes
    distinct = judged.unique([*KEY, "completion_hash"], keep="first")
    return votes.join(_voted(distinct, "vote_distinct"), on=KEY, how="left")


def _voted(judged: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return whether the majority of each episode's rows is right, null where no row was judged."""
    numbered = judged.with_columns(number=pl.struct(KEY).rank("dense").cast(pl.String))
    keys = numbered.select(*KEY, "number").unique()
    known = numbered.filter(_drawn().any().over("number")).with_columns(problem_key="number")
    answers = MajorityVote().run(known.drop("episode", "chosen", "number", "completion_hash", strict=False))
    right = answers.select(number="problem_key", **{name: pl.col("is_correct").fill_null(False)})
    return keys.join(right, on="number", how="left").drop("number")
