"""Two runs on the same problems: where does the second lose, and what does it cost?"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from operators.select.majority import MajorityVote
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, np, pl
from schemas.measures import Paired
from schemas.prices import Prices

VERDICTS = Verdict.select(*MajorityVote.inputs["verdicts"].names, "chosen")
SAMPLES = Sample.select(*SAMPLE_KEY, "prompt_tokens", "cached_prompt_tokens", "completion_tokens")
ENDS = (0.025, 0.975)
BLOCK = 4_000_000
"""Numbers held at once."""


def mcnemar(lost: int, won: int) -> float:
    """Return the p-value of the exact McNemar test: two-sided, the discordant pairs being fair coins (McNemar 1947)."""
    from scipy import stats as _stats  # pyright: ignore[reportMissingTypeStubs]: 30 MB, for one number

    stats: Any = _stats
    return min(1.0, 2.0 * float(stats.binom.cdf(min(lost, won), lost + won, 0.5))) if lost + won else 1.0


def bootstrap(values: Floats, draws: int, seed: int) -> tuple[float, float]:
    """Return the 2.5% and 97.5% quantiles of the mean of values that are drawn with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // len(values))
    means = [
        values[rng.integers(0, len(values), (min(step, draws - start), len(values)))].mean(axis=1)
        for start in range(0, draws, step)
    ]
    low, high = np.quantile(np.concatenate(means), ENDS)
    return float(low), float(high)


class MeasurePaired(PiecewiseOperator):
    """Compare two runs on the problems that both have, by task, the largest loss first.

    As "Mind Your Step (by Step)" compares answers with and without a chain of thought (Liu et al. 2024): what the
    problems have in common cancels. ``difference`` is the second's accuracy less the first's, each a mean over problems
    of the share of right samples; its interval draws problems with replacement. McNemar's test is about majority
    answers (ties: the one seen first). ``worse`` marks tasks whose whole interval is below 0.

    Tokens and dollars are of a sample, the mean over problems; dollars where ``first_prices`` and ``second_prices``
    are known.
    """

    version: ClassVar[int] = 1
    inputs = {
        "first": VERDICTS,
        "second": VERDICTS,
        "first_samples": SAMPLES,
        "second_samples": SAMPLES,
        "problems": Problem.select("problem_key", "task_type", "metadata"),
    }
    optional = frozenset({"first_samples", "second_samples", "problems"})
    output = Paired

    by: str = "task_type"
    """What a task is: ``task_type`` or a field of the problems' metadata."""
    bootstrap: Annotated[int, Field(ge=100)] = 10_000
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""
    first_prices: Prices = Prices()
    """Prices of the first run's engine."""
    second_prices: Prices = Prices()
    """Prices of the second run's engine."""

    def partial(self, **tables: pl.DataFrame | None) -> pl.DataFrame:
        """Return a row per problem of both: accuracy, majority, tokens and dollars of either, and the task."""
        found: pl.DataFrame | None = None
        for name, prices in (("first", self.first_prices), ("second", self.second_prices)):
            verdicts = tables.get(name)
            assert verdicts is not None
            one = _of_run(verdicts, tables.get(f"{name}_samples"), prices)
            one = one.rename({column: f"{name}_{column}" for column in one.columns if column != "problem_key"})
            found = one if found is None else found.join(one, on="problem_key")
        assert found is not None
        problems = tables.get("problems")
        if problems is None:
            return found.with_columns(task=pl.lit(None, pl.String))
        tasks = [
            task_type if self.by == "task_type" else json.loads(text or "{}").get(self.by)
            for task_type, text in problems.select("task_type", "metadata").iter_rows()
        ]
        named = [None if task is None else str(task) for task in tasks]
        about = problems.select("problem_key", task=pl.Series(named, dtype=pl.String))
        return found.join(about, on="problem_key", how="left")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return all problems together, and each task where there are several.

        Raises:
            BadInput: no problem was judged in both.
        """
        table = partials.sort("problem_key")
        if table.is_empty():
            raise BadInput("measure.paired: no problem was judged in both runs; they must share problem_key")
        tasks: list[str] = table["task"].drop_nulls().unique().sort().to_list()
        rows = [self._row("all", table)]
        if len(tasks) > 1:
            named = [self._row(task, table.filter(pl.col("task") == task)) for task in tasks]
            rows += sorted(named, key=lambda row: (row["difference"], row["task"]))
        return pl.DataFrame([{"rank": rank, **row} for rank, row in enumerate(rows)], schema=polars_schema(Paired))

    def _row(self, task: str, table: pl.DataFrame) -> dict[str, Any]:
        first, second = (table[f"{name}_accuracy"].to_numpy() for name in ("first", "second"))
        apart: Floats = second - first
        low, high = bootstrap(apart, self.bootstrap, self.seed)
        one, other = (table[f"{name}_majority"].fill_null(False) for name in ("first", "second"))
        lost, won = int((one & ~other).sum()), int((~one & other).sum())
        ratios = {
            f"{kind}_ratio": _ratio(table[f"first_{kind}"], table[f"second_{kind}"]) for kind in ("tokens", "dollars")
        }
        return {
            **{"task": task, "n_problems": len(table), "first": float(first.mean()), "second": float(second.mean())},
            **{"difference": float(apart.mean()), "low": low, "high": high, "lost": lost, "won": won},
            **{"p_value": mcnemar(lost, won), **ratios, "worse": high < 0.0},
        }


def _of_run(verdicts: pl.DataFrame, samples: pl.DataFrame | None, prices: Prices) -> pl.DataFrame:
    judged = draws(one_verifier(verdicts)).drop("chosen")
    known = judged.filter(pl.col("status").is_in(DRAWN), pl.col("is_correct").is_not_null())
    accuracy = known.group_by("problem_key").agg(accuracy=pl.col("is_correct").mean())
    vote = MajorityVote().run(verdicts=judged).select("problem_key", majority="is_correct")
    found = accuracy.join(vote, on="problem_key", how="left")
    if samples is None:
        nothing = pl.lit(None, pl.Float64)
        return found.with_columns(tokens=nothing, dollars=nothing)
    dollars = pl.lit(None, pl.Float64)
    if prices.rates is not None:
        fresh, cached, made = prices.rates
        again = pl.col("cached_prompt_tokens")
        dollars = (
            (pl.col("prompt_tokens") - again) * fresh + again * cached + pl.col("completion_tokens") * made
        ) / 1e6
    costs = samples.group_by("problem_key").agg(tokens=pl.col("completion_tokens").mean(), dollars=dollars.mean())
    return found.join(costs, on="problem_key", how="left")


def _ratio(first: pl.Series, second: pl.Series) -> float | None:
    both = pl.DataFrame({"first": first, "second": second}).drop_nulls()
    total = float(both["first"].sum())
    return float(both["second"].sum()) / total if total > 0 else None
