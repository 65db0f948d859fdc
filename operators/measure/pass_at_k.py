"""pass@k: the chance that at least one of k samples is right, estimated without bias from n >= k samples.

Coverage at k is the mean of pass@k over problems. The estimator averages over all subsets of k of the n samples drawn
(Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1), so nothing depends on their order. It has
no value for k > n, and leaving out the problems with few samples would compare different problems at different k: in
adaptively sampled data that alone lifts a coverage of .50 to .88.

What n depended on decides how coverage is estimated, and n itself doesn't tell it. A run under a policy writes its rule
into its log (``allocations``); without one, samples were asked for alike and some may have been lost:

* *nothing* (no policy, ``uniform``, rows lost to errors): pass@k of each problem, which is c/n for k = 1. Of problems
  with fewer than k samples it is known to be between what it is at their n and 1, and estimated by how rates are
  spread. A k beyond the median n is refused.
* *the results* (a policy stopped at successes): c/n is biased, since n is small where it is large by luck. When the
  first success came isn't (``operators.measure.survival``).
* *the results and hints* (a policy that was told of the problems beforehand): those given up are harder than the
  others, and what is missing is estimated with the hints (``operators.measure.hinted``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.measure.counts import LEFT_OUT, Drawn, FromCounts, left_out
from operators.measure.intervals import ends, new_problems, same_problems
from operators.measure.survival import first_success, interval, unstopped
from operators.measure.tail import expected, fit_all
from schemas import measures
from schemas.contract import polars_schema
from schemas.errors import BadInput
from schemas.identity import Added
from schemas.later import Floats, Ints, np, pl, special

DRAWS = 400
"""How many draws from the spread of success rates the estimate for problems with fewer than k samples is made of."""


def pass_at_k(n: Any, c: Any, k: Any) -> Floats:
    """Return pass@k = 1 - C(n-c, k) / C(n, k) of each problem at each k, by log-gamma (to about 1e-11).

    Args:
        n: samples per problem, shape [problems].
        c: correct ones among them, shape [problems].
        k: shape [ks], 1 <= k <= n everywhere.

    Returns:
        Array of shape [problems, ks].

    Raises:
        ValueError: k outside [1, n], or c outside [0, n].
    """
    samples, right, draws = (np.atleast_1d(np.asarray(value, dtype=np.int64)) for value in (n, c, k))
    if ((right < 0) | (right > samples)).any():
        raise ValueError("c must be in [0, n]")
    if draws.size and samples.size and (draws.min() < 1 or draws.max() > samples.min()):
        raise ValueError("k must be in [1, n] for every problem")
    return estimate(samples, right, draws)


def estimate(n: Ints, c: Ints, k: Ints) -> Floats:
    """Return pass@k as ``pass_at_k`` does, of arrays of any leading shape: [..., problems] -> [..., problems, ks]."""
    n, c = n[..., None], c[..., None]
    wrong = n - c
    rest = np.maximum(wrong - k, 0)
    # grouped so that c = 0 gives exactly 0
    log_miss = (_log_factorial(wrong) - _log_factorial(rest)) - (_log_factorial(n) - _log_factorial(n - k))
    return np.where(wrong < k, 1.0, -np.expm1(np.minimum(log_miss, 0.0)))


def _log_factorial(n: Ints) -> Floats:
    few = n.size > 0 and n.max() < n.size  # distinct ones, and looking up costs a tenth of computing
    logs = np.asarray(special.gammaln((np.arange(n.max() + 1) if few else n) + 1.0), dtype=np.float64)
    return logs[n] if few else logs


def powers_of_two(n: int) -> list[int]:
    """Return 1, 2, 4, ... up to ``n``, and ``n`` itself: the sizes at which curves over samples are measured."""
    sizes = [2**power for power in range(max(n, 1).bit_length())]
    return sizes if sizes[-1] >= n else [*sizes, n]


def of_each(drawn: Drawn, k: int) -> Floats | None:
    """Return an unbiased number for each problem whose mean is coverage at k; None where some problem has none.

    Differences of two runs on the same problems are made of these, problem by problem: what the problems have in common
    cancels (``operators.measure.intervals.differences``).
    """
    if not drawn.stopped:
        return estimate(drawn.n, drawn.c, np.array([k]))[:, 0] if k <= drawn.n.min(initial=k) else None
    if drawn.first is None or not len(drawn.n) or k > unstopped(drawn.n, drawn.first):
        return None
    return ((drawn.first > 0) & (drawn.first <= k)).astype(np.float64)


class PassAtK(FromCounts):
    """Coverage (mean pass@k) with 95% intervals, from verdicts or from bare counts (which win where both are given).

    ``low`` to ``high`` is about problems like these, ``same_low`` to ``same_high`` about these very ones
    (``operators.measure.intervals``). Where some problems have fewer than k samples, ``least`` and ``most`` are the
    coverage if all that weren't drawn had been wrong or right. ``note`` says how n were allocated, and which estimate
    that asked for.

    Verdicts that say nothing about a sample (error, skipped, timeout, no known answer) are left out of its problem's n,
    and problems with no other verdicts are left out of the mean; ``note`` says so. A problem that a policy never served
    is one of the problems.
    """

    version: ClassVar[int] = 2
    output = measures.PassAtK

    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Empty: powers of two up to the largest k at which nothing is missing, and that one; with hints, up to the median
    n."""
    bootstrap: int = Field(default=2000, ge=100)
    """Draws that intervals are made of."""
    seed: int = 0
    """Seed of these draws."""
    stopped: Annotated[bool | None, Added] = None
    """Whether n depended on the results. None: as the run's log says; where there is none, only if hints are given."""

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per k.

        Raises:
            BadInput: nothing to measure, or a k of which too little is known.
        """
        bare = partials.filter(pl.col(LEFT_OUT[0]).is_null())  # all of one call, so they keep their order
        table = partials.sort("problem_id") if bare.is_empty() else bare
        excluded = left_out(table)
        known = pl.col("policies").is_not_null() | pl.col("hints").is_not_null()
        unserved = known & (pl.sum_horizontal(pl.col(LEFT_OUT).fill_null(0)) == 0)
        measured = table.filter((pl.col("n") > 0) | unserved)
        if not measured["n"].sum():
            raise BadInput(
                f"measure.pass_at_k: none of {len(table)} problem(s) has a sample that counts, so there is nothing to "
                f"measure{f' ({excluded})' if excluded else ''}; pass@k needs verdicts on problems with a known answer"
            )
        drawn = Drawn.of(measured, self.stopped)
        found = self._stopped(drawn) if drawn.stopped else self._unstopped(drawn, measured)
        notes = [_unmeasured(len(table) - len(measured)), excluded, _models(measured)]
        rest = "".join(f"; {note}" for note in notes if note)
        columns = found.with_columns(pl.lit(len(measured), pl.Int64).alias("n_problems"), pl.col("note") + pl.lit(rest))
        return columns.select(list(polars_schema(measures.PassAtK)))

    def _stopped(self, drawn: Drawn) -> pl.DataFrame:
        """Return estimates, intervals, bounds and a note for each k, where n depended on results."""
        n, c, first = drawn.n, drawn.c, drawn.first
        if first is None:
            raise BadInput(
                "measure.pass_at_k: where n depended on the results it must be known when each problem was first "
                "solved, which n and c of a problem with several right samples don't say; give 'verdicts'"
            )
        if drawn.hints is not None:
            k = self._sizes(max(1, int(np.median(n))))
            _refuse_beyond(k, n)
            from operators.measure.hinted import hinted  # of few runs: those of a policy that was told beforehand

            value, *intervals = hinted(n, c, first, drawn.hints, k, self.bootstrap, self.seed)[:5]
            how = "hints chose whom to sample; what is missing is estimated from all counts with the hints"
        else:
            k = self._sizes(unstopped(n, first))
            value = first_success(n, first, k)
            intervals = [
                *interval(n, first, k, self.bootstrap, self.seed),
                *ends(same_problems(n, c, k, self.bootstrap, self.seed), value),
            ]
            how = "n may have depended on results: from when each problem was first solved (Kaplan-Meier)"
        solved = (first[:, None] > 0) & (first[:, None] <= k)
        missing = (first[:, None] == 0) & (n[:, None] < k)
        rule = f"sampled by {', '.join(drawn.policies)}; {how}" if drawn.policies else how
        note = "; ".join([spread(n), rule, *_unserved(n)])
        return _table(k, value, intervals, solved.mean(axis=0), (solved | missing).mean(axis=0), note)

    def _unstopped(self, drawn: Drawn, table: pl.DataFrame) -> pl.DataFrame:
        """Return the same where n didn't depend on results."""
        n, c = drawn.n, drawn.c
        k = self._sizes(int(n[n > 0].min()))
        self._refuse_few(table, k)
        least = estimate(n, c, np.minimum(k, n[:, None]))
        values, most = least.copy(), least.copy()
        few = n < k.max()
        if few.any():
            theta = fit_all(n, c).draw(DRAWS, np.random.default_rng(self.seed))
            missing = n[few, None] < k
            pairs, place = np.unique(np.stack([n[few], c[few]]), axis=1, return_inverse=True)
            usual: Floats = expected(theta, pairs[0], pairs[1], k).mean(axis=0)
            likely = np.maximum(usual[place.ravel()], least[few])
            values[few] = np.where(missing, likely, least[few])
            most[few] = np.where(missing, 1.0, least[few])
        value = values.mean(axis=0)
        intervals = [
            *new_problems(least, most, self.bootstrap, self.seed),
            *ends(same_problems(n, c, k, self.bootstrap, self.seed), value),
        ]
        note = "; ".join([allocation(n), *_unserved(n)])
        return _table(k, value, intervals, least.mean(axis=0), most.mean(axis=0), note)

    def _sizes(self, largest: int) -> Ints:
        return np.array(sorted(set(self.k)) or powers_of_two(largest), dtype=np.int64)

    def _refuse_few(self, counts: pl.DataFrame, k: Ints) -> None:
        """Refuse a k that few problems have samples for: fewer than half, and not all that were sampled at all."""
        n = counts["n"].to_numpy()
        usual = max(int(np.median(n)), int(n[n > 0].min()))
        few = counts.filter(pl.col("n") < int(k.max())).sort("n", "problem_id")
        if few.is_empty() or int(k.max()) <= usual:
            return
        smallest = int(few["n"][0])
        named = ", ".join(
            f"'{problem}' (n = {n:,})" for problem, n in few.select("problem_id", "n").head(3).iter_rows()
        )
        bounded = f", for k <= {usual:,} to get bounds" if usual > smallest else ""
        raise BadInput(
            f"measure.pass_at_k: k = {_listed(k[k > usual])} needs that many samples of every problem, but "
            f"{len(few):,} of {len(counts):,} problems have fewer, for example {named}. Leaving these out would "
            f"measure different problems at different k. Ask for k <= {smallest:,}{bounded}, draw more of them, "
            "or leave them out of the whole measurement"
        )


def _refuse_beyond(k: Ints, n: Ints) -> None:
    if k.max() > n.max():
        raise BadInput(
            f"measure.pass_at_k: k = {_listed(k[k > n.max()])}, but no problem has more than {int(n.max()):,} samples. "
            f"Ask for k <= {int(n.max()):,}, or for a forecast (measure.forecast)"
        )


def _table(k: Ints, value: Floats, intervals: Sequence[Floats], least: Floats, most: Floats, note: str) -> pl.DataFrame:
    names = ("low", "high", "same_low", "same_high")
    shares = {"coverage": value, **dict(zip(names, intervals, strict=True)), "least": least, "most": most}
    found = pl.DataFrame({"k": k, **{name: np.clip(column, 0.0, 1.0) for name, column in shares.items()}})
    apart = pl.col("most") - pl.col("least") > 1e-12
    numbers = [pl.col(name).round(3).cast(pl.String) for name in ("least", "most")]
    width = (pl.col("most") - pl.col("least")).round(3).cast(pl.String)
    bounds = pl.format("; whatever the missing samples are, between {} and {} (width {})", *numbers, width)
    return found.with_columns(
        pl.when(apart).then("least"),
        pl.when(apart).then("most"),
        note=pl.lit(note) + pl.when(apart).then(bounds).otherwise(pl.lit("")),
    )


def allocation(n: Sequence[int] | Ints) -> str:
    """Say how samples were allocated: "n = 32 for all 16 problems"."""
    low, high, problems = int(np.min(n)), int(np.max(n)), len(n)
    if low == high:
        return f"n = {low:,} for all {problems:,} problems" if problems > 1 else f"n = {low:,} for 1 problem"
    return f"{spread(n)}: unequal n, without bias where n didn't depend on the results (else say stopped=true)"


def spread(n: Sequence[int] | Ints) -> str:
    """Say how far n differs: "n = 1 to 40 over 16 problems (median 12)"."""
    return f"n = {int(np.min(n)):,} to {int(np.max(n)):,} over {len(n):,} problems (median {np.median(n):,.0f})"


def _unserved(n: Ints) -> list[str]:
    none = int((n == 0).sum())
    return [f"{none:,} of the {len(n):,} problems got no sample"] if none else []


def _unmeasured(problems: int) -> str:
    return f"{problems:,} problem(s) without any usable verdict left out" if problems else ""


def _models(counts: pl.DataFrame) -> str:
    models = counts["model"].n_unique()
    return f"{models} models pooled, a row of counts each" if models > 1 else ""


def _listed(values: Ints) -> str:
    shown = [f"{value:,}" for value in values.tolist()]
    return ", ".join(shown) if len(shown) <= 4 else f"{', '.join(shown[:3])}, ... {shown[-1]}"
