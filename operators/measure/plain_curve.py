"""Plain sampling's accuracy and coverage against its bill."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from operators.base import Operator
from operators.measure.intervals import BLOCK, ENDS
from operators.measure.plain import PLAIN_INPUTS, STOPPING, UNITS, Plain
from schemas.contract import polars_schema
from schemas.episodes import PlainCurve
from schemas.later import np, pl
from schemas.prices import Prices


class MeasurePlainCurve(Operator):
    """Measure votes and coverage of plain samples at many sizes, with the bill of each.

    The curve beside which ``measure.equal_bill`` puts strategies: in tokens written, all tokens, scorer passes, and in
    dollars where ``prices`` say them. ``until_right`` and ``until_agreed`` are of sampling that stops by itself.
    Intervals resample problems.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = PLAIN_INPUTS
    optional = frozenset({"scores"})
    output = PlainCurve

    prices: dict[str, Prices] = {}
    """What tokens cost, by role: ``policy``, and ``scorer`` where samples are scored."""
    subsets: int = Field(default=50, ge=5)
    """Random subsets of the samples at each size."""
    bootstrap: int = Field(default=1000, ge=100)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    @field_validator("prices")
    @classmethod
    def _of_tokens(cls, value: dict[str, Prices]) -> dict[str, Prices]:
        if lacking := [role for role, prices in value.items() if prices.rates is None]:
            raise ValueError(f"prices of tokens read and written are needed for {', '.join(lacking)}")
        return value

    def run(self, **inputs: pl.LazyFrame | None) -> pl.DataFrame:
        """Return one row per unit of the bill, method and size.

        Raises:
            BadInput: no problem was sampled and judged.
        """
        tables = {name: None if table is None else table.collect() for name, table in inputs.items()}
        plain = Plain(tables, self.subsets, self.seed, self.prices, "measure.plain_curve")
        count = len(plain.table)
        rng = np.random.default_rng(self.seed)
        replicates = min(self.bootstrap, max(100, BLOCK // count))
        weights = rng.multinomial(count, [1.0 / count] * count, size=replicates) / count
        rows: list[dict[str, Any]] = []
        for method in (*plain.methods, "coverage", *STOPPING.values()):
            bills = {unit: plain.bill(unit, method) for unit in UNITS}
            for size in plain.sizes("majority"):
                right = plain.right(method, size)
                low, high = (float(end) for end in np.quantile(weights @ right, ENDS))
                found = {"method": method, "n": size, "accuracy": right.mean(), "low": low, "high": high}
                drawn = plain.drawn(method, size)
                rows += [
                    {"unit": unit, "bill": (each * drawn).mean(), "n_problems": count, **found}
                    for unit, each in bills.items()
                    if each is not None
                ]
        return pl.DataFrame(rows, schema=polars_schema(PlainCurve), orient="row")
