"""What n samples are worth at best, at worst and on average, against the tokens that they take."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.intervals import new_problems
from operators.measure.pass_at_k import estimate, powers_of_two
from operators.measure.reliability import at_least
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from operators.select.majority import MajorityVote
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Sample, Verdict
from schemas.errors import BadInput
from schemas.later import np, pl
from schemas.measures import Bounds


class MeasureBounds(PiecewiseOperator):
    """Bounds of inference-time scaling (Balachandran et al. 2025, "Inference-Time Scaling for Complex Tasks ...").

    * ``average`` of one sample; ``best`` of n, what a perfect verifier would pick (pass@n), and ``worst`` of n, what
      the worst one would: all are right (pass^n). At n = 1 all three are the same.
    * ``majority`` of all samples of a problem.
    * ``short`` and ``long``: the accuracy of the shorter and of the longer half of each problem's samples. As both are
      about the same problems, whether length helps isn't mixed up with that hard problems take long.

    ``tokens`` are completion tokens, n times a sample's mean. 95% intervals are for problems like these (Gaffke's).
    """

    version: ClassVar[int] = 1
    inputs = {
        "verdicts": Verdict.select(*MajorityVote.inputs["verdicts"].names, "chosen"),
        "samples": Sample.select(*SAMPLE_KEY, "completion_tokens"),
    }
    optional = frozenset({"samples"})
    output = Bounds

    each: bool = False
    """Give a row for each problem too, beside those for all of them."""
    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Of the intervals' random draws: the same seed, the same intervals."""

    def partial(self, verdicts: pl.DataFrame | None = None, samples: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return a row per problem: n, c, majority, mean tokens, and accuracy and tokens of either half."""
        assert verdicts is not None
        judged = draws(one_verifier(verdicts)).drop("chosen")
        vote = MajorityVote().run(verdicts=judged).select("problem_key", majority=pl.col("is_correct").cast(pl.Float64))
        known = pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()
        rows = judged.filter(known).select(*SAMPLE_KEY, right=pl.col("is_correct").cast(pl.Float64))
        if samples is None:
            rows = rows.with_columns(tokens=pl.lit(None, pl.Float64))
        else:
            lengths = samples.select(*SAMPLE_KEY, tokens=pl.col("completion_tokens").cast(pl.Float64))
            rows = rows.join(lengths, on=SAMPLE_KEY, how="left")
        rows = rows.sort("problem_key", "tokens", "sample_index")
        place, n = pl.int_range(pl.len()).over("problem_key"), pl.len().over("problem_key")
        told = pl.col("tokens").is_not_null()
        rows = rows.with_columns(short=(2 * place + 2 <= n) & told, long=(2 * place >= n) & told)
        table = rows.group_by("problem_key").agg(
            n=pl.len().cast(pl.Int64),
            c=pl.col("right").sum().cast(pl.Int64),
            tokens=pl.col("tokens").mean(),
            **{name: pl.col("right").filter(name).mean() for name in HALVES},
            **{f"{name}_tokens": pl.col("tokens").filter(name).mean() for name in HALVES},
        )
        return table.join(vote, on="problem_key", how="left")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per metric and n (and problem).

        Raises:
            BadInput: no problem has a sample that counts.
        """
        table = partials.sort("problem_key")
        if table.is_empty():
            raise BadInput("measure.bounds: no problem has a sample that counts, so there is nothing to measure")
        n, c = (table[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        tokens = table["tokens"]
        least = int(n.min())
        found = [self._rows("average", 1, table, pl.Series(c / n), tokens)]
        for k in powers_of_two(least):
            size = np.array([k])
            best, worst = estimate(n, c, size)[:, 0], at_least(n, c, k, k)
            found += [
                self._rows(name, k, table, pl.Series(values), tokens * k)
                for name, values in (("best", best), ("worst", worst))
            ]
        every = tokens * table["n"]
        found.append(self._rows("majority", least, table, table["majority"], every))
        if least > 1:
            found += [self._rows(name, 1, table, table[name], table[f"{name}_tokens"]) for name in HALVES]
        return pl.concat(found)

    def _rows(self, metric: str, n: int, table: pl.DataFrame, values: pl.Series, tokens: pl.Series) -> pl.DataFrame:
        of_each = pl.DataFrame({"problem_key": table["problem_key"], "value": values, "tokens": tokens})
        of_each = of_each.filter(pl.col("value").is_not_null()).with_columns(pl.col("value").clip(0.0, 1.0))
        schema = polars_schema(Bounds)
        if of_each.is_empty():
            return pl.DataFrame(schema=schema)
        each = of_each["value"].to_numpy()[:, None]
        low, high = new_problems(each, each, self.bootstrap, self.seed)
        mean = (metric, n, "", float(each.mean()), float(low[0]), float(high[0]), of_each["tokens"].mean(), len(each))
        rows = pl.DataFrame([mean], schema=schema, orient="row")
        if not self.each:
            return rows
        own = of_each.with_columns(
            metric=pl.lit(metric), n=pl.lit(n, pl.Int64), n_problems=pl.lit(1, pl.Int64),
            low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64),
        )  # fmt: skip
        return pl.concat([rows, own.select(list(schema))])


HALVES = ("short", "long")
"""Of each problem's samples by length; the middle one of an odd number is in neither."""
