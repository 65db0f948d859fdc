"""Predictive multiplicity: how many answers hang on the choice among verifiers or reward models that are equally good.

Marx et al. 2020, "Predictive Multiplicity in Classification". Give each verifier or reward model its own answers
(``select.weighted`` and ``select.best_of_n`` do, for each scorer) and compare them here.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.piecewise import PiecewiseOperator
from schemas.contract import polars_schema
from schemas.datasets import Answer
from schemas.errors import BadInput
from schemas.later import Bools, np, pl
from schemas.measures import Multiplicity


class MeasureMultiplicity(PiecewiseOperator):
    """Ambiguity and discrepancy of the methods that are nearly as good as the baseline, with 95% intervals.

    Nearly as good: accuracy at most ``epsilon`` below the baseline's, by the answers known to be right or wrong (all
    methods where none is). ``ambiguity``: the share of problems whose answer at least one of them changes;
    ``discrepancy``: the largest share that a single one changes, named in ``method``; ``changed``: each method's share.
    Only problems that all methods answered are compared.
    """

    version: ClassVar[int] = 1
    inputs = {"answers": Answer.select("problem_key", "method", "answer", "answer_class", "is_correct")}
    output = Multiplicity

    baseline: str = ""
    """A method; by default the most accurate one, of equals the first by name."""
    epsilon: float = Field(default=0.01, ge=0.0, le=1.0)
    """How much accuracy a method may lack to be nearly as good as the baseline."""
    methods: str = ""
    """Only methods whose name matches this regular expression."""
    bootstrap: int = Field(default=1000, ge=100)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def partial(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Return what each method said: an answer class, or the answer where there are no classes."""
        some = answers.filter(pl.col("method").str.contains(self.methods)) if self.methods else answers
        said = pl.coalesce(pl.col("answer_class").cast(pl.String), "answer").fill_null("").alias("said")
        return some.select("problem_key", "method", said, "is_correct")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of all metrics.

        Raises:
            BadInput: fewer than two methods, no problem that all answered, or an unknown baseline.
        """
        methods: list[str] = partials["method"].unique().sort().to_list()
        if len(methods) < 2:
            raise BadInput(f"measure.multiplicity compares at least two methods; there is {methods or 'none'}")
        if self.baseline and self.baseline not in methods:
            raise BadInput(f"measure.multiplicity: baseline = '{self.baseline}' is none of the methods {methods}")
        said = partials.pivot("method", index="problem_key", values="said").drop_nulls(methods).sort("problem_key")
        if said.is_empty():
            raise BadInput("measure.multiplicity: there is no problem that all methods answered")
        together = partials.join(said.select("problem_key"), on="problem_key", how="semi")
        accuracy = dict(together.group_by("method").agg(pl.col("is_correct").mean()).iter_rows())
        known = {name: value for name, value in accuracy.items() if value is not None}
        baseline = self.baseline or (max(sorted(known), key=lambda name: known[name]) if known else methods[0])
        near = [
            name
            for name in methods
            if name != baseline
            and (name not in known or baseline not in known or known[name] >= known[baseline] - self.epsilon - 1e-12)
        ]
        changed = np.stack([(said[name] != said[baseline]).to_numpy() for name in methods])
        rows = [("baseline", baseline, known.get(baseline), None, None)]
        rows += [
            ("changed", name, *self._share(changed[i : i + 1])) for i, name in enumerate(methods) if name != baseline
        ]
        nothing = np.zeros((1, len(said)), dtype=np.bool_)
        among = changed[np.array([methods.index(name) for name in near])] if near else nothing
        most = near[int(among.mean(axis=1).argmax())] if near else ""
        rows += [
            ("ambiguity", "", *self._share(np.logical_or.reduce(among, axis=0)[None])),
            ("discrepancy", most, *self._share(among)),
        ]
        table = pl.DataFrame(rows, schema=["metric", "method", "value", "low", "high"], orient="row")
        note = f"{len(near)} of {len(methods) - 1} methods are within {self.epsilon:g} of '{baseline}'"
        return table.with_columns(n=pl.lit(len(said), pl.Int64), note=pl.lit(note)).cast(polars_schema(Multiplicity))  # pyright: ignore[reportArgumentType]

    def _share(self, changed: Bools) -> tuple[float, float, float]:
        """Return the largest share that a row changes, and its 95% interval over problems drawn with replacement."""
        n = changed.shape[1]
        value = float(changed.mean(axis=1).max())
        drawn = np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), size=self.bootstrap)
        replicates = (drawn @ changed.T.astype(np.float64)).max(axis=1) / n
        low, high = np.quantile(replicates - replicates.mean() + value, [0.025, 0.975])
        return value, float(np.clip(min(low, value), 0, 1)), float(np.clip(max(high, value), 0, 1))
