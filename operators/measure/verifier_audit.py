"""An audit of a verifier by a stronger one: how often it errs, and what its errors do to numbers and to resampling."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from operators.base import Operator
from operators.measure.flaws import best_tries, ceiling, reward, tasks
from operators.measure.pass_at_k import powers_of_two
from operators.select.classes import SAMPLE_KEY, one_verifier
from schemas.contract import polars_schema
from schemas.datasets import Verdict, VerifierAudit
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIORS = ((1.0, 1.0), (0.5, 0.5), (4.0, 1.0))
"""Beta priors of completeness and soundness: uniform, Jeffreys', and one that expects a good verifier."""


class MeasureVerifierAudit(Operator):
    """Estimate completeness P(accepted | right) and soundness P(rejected | wrong) of ``verdicts`` by ``reference``.

    The reference may know a part of the samples only (choose it at random). Rows:

    * ``completeness``, ``soundness``, ``precision`` (P(right | accepted) of one draw): on what both judged; 95%
      intervals by a bootstrap over problems, whose samples go together.
    * ``accuracy_judged``: the verifier's own word on all its samples; ``accuracy_corrected``: what it means, given its
      errors (Rogan and Gladen 1978), as a posterior mean and interval: Beta priors on completeness and soundness
      (``PRIORS``; one row each, to show how much they matter) and the binomial of the judged share.
    * ``ceiling``: P(right | accepted) when a problem is drawn until something is accepted: what no amount of
      resampling passes (Stroebl et al. 2024); problems are the types of tasks there, each with its own success rate.
    * ``best_tries`` (K*) and ``value``, rows at K = 1, 2, 4, ...: the expected value R(K) with ``value_correct`` for a
      right answer and ``value_wrong`` for a wrong one.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct"),
        "reference": Verdict.select("problem_key", "sample_index", "verifier", "is_correct"),
    }
    output = VerifierAudit

    value_correct: float = 1.0
    value_wrong: Annotated[float, Field(le=0.0)] = -1.0
    """What a wrong answer that was accepted costs."""
    tries: int = Field(default=1000, ge=1)
    """The largest K that is looked at."""
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0

    def run(self, verdicts: pl.LazyFrame, reference: pl.LazyFrame) -> pl.DataFrame:
        """Return the audit.

        Raises:
            BadInput: no sample was judged by both, or the reference says that none is right, or none wrong.
        """
        judged = one_verifier(verdicts).filter(pl.col("is_correct").is_not_null())
        known = one_verifier(reference).filter(pl.col("is_correct").is_not_null())
        own = judged.select(*SAMPLE_KEY, accepted="is_correct")
        both = own.join(known.select(*SAMPLE_KEY, right="is_correct"), on=SAMPLE_KEY).collect(engine="streaming")
        if both.is_empty():
            raise BadInput(
                "measure.verifier_audit: no sample was judged by both; 'verdicts' and 'reference' have to share "
                "problem_key and sample_index"
            )
        counts = _counts(both)
        if not counts[:, :2].any() or not counts[:, 2:].any():
            missing = "right" if not counts[:, :2].any() else "wrong"
            raise BadInput(f"measure.verifier_audit: of {len(both)} samples that both judged the reference calls none "
                           f"{missing}; completeness and soundness need both kinds")  # fmt: skip
        total = (
            own.select(pl.len().alias("n"), pl.col("accepted").sum().alias("yes")).collect(engine="streaming").row(0)
        )
        rng = np.random.default_rng(self.seed)
        rows = [*self._errors(counts, rng), *self._accuracy(counts, total, rng), *self._resampling(counts)]
        schema = polars_schema(VerifierAudit)
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _errors(self, counts: Ints, rng: np.random.Generator) -> list[tuple[object, ...]]:
        drawn = rng.integers(0, len(counts), size=(self.bootstrap, len(counts)))
        totals = counts[drawn].sum(axis=1)
        names = {"completeness": (0, 0, 1), "soundness": (3, 2, 3), "precision": (0, 0, 2)}
        rows: list[tuple[object, ...]] = []
        for name, (top, one, other) in names.items():
            whole = counts.sum(axis=0)
            below = totals[:, one] + totals[:, other]
            shares = totals[below > 0, top] / below[below > 0]
            n = int(whole[one] + whole[other])
            value = float(whole[top] / n) if n else None
            low, high = np.quantile(shares, [0.025, 0.975]).tolist() if len(shares) else (None, None)
            note = f"{len(counts)} problems; bootstrap over problems"
            rows.append((name, 0, "", value, low, high, n, note))
        return rows

    def _accuracy(self, counts: Ints, total: tuple[int, int], rng: np.random.Generator) -> list[tuple[object, ...]]:
        n, yes = total
        low, high = np.quantile(rng.beta(yes + 1, n - yes + 1, 20_000), [0.025, 0.975]).tolist()
        rows: list[tuple[object, ...]] = [("accuracy_judged", 0, "", yes / n, low, high, n, "as the verifier says")]
        caught, missed, fooled, refused = counts.sum(axis=0)
        for a, b in PRIORS:
            draws = 20_000
            complete = rng.beta(a + caught, b + missed, draws)
            sound = rng.beta(a + refused, b + fooled, draws)
            share = rng.beta(1 + yes, 1 + n - yes, draws)
            informative = complete + sound > 1  # a verifier no better than chance tells nothing
            if not informative.any():
                continue
            top, below = share + sound - 1, complete + sound - 1
            corrected = np.clip(top[informative] / below[informative], 0.0, 1.0)
            low, high = np.quantile(corrected, [0.025, 0.975]).tolist()
            note, prior = "corrected after Rogan and Gladen", f"Beta({a:g}, {b:g})"
            rows.append(("accuracy_corrected", 0, prior, float(corrected.mean()), low, high, n, note))
        return rows

    def _resampling(self, counts: Ints) -> list[tuple[object, ...]]:
        right, all_of = counts[:, :2].sum(axis=1), counts.sum(axis=1)
        caught, missed, fooled, refused = (int(number) for number in counts.sum(axis=0))
        given = tasks(np.ones(len(counts)), right / all_of, caught / (caught + missed), refused / (fooled + refused))
        note = f"{len(counts)} problems, each a type of task with its own success rate"
        best, value = best_tries(given, self.value_correct, self.value_wrong, self.tries)
        top = ceiling(given)
        values = f"value {self.value_correct:g} if right, {self.value_wrong:g} if wrong"
        found = f"{values}; R = {value:.4f}" + (
            f"; the largest K looked at is {self.tries}" if best == self.tries else ""
        )
        rows: list[tuple[object, ...]] = [
            ("ceiling", 0, "", None if np.isnan(top) else top, None, None, int(all_of.sum()), note),
            ("best_tries", 0, "", float(best), None, None, int(all_of.sum()), found),
        ]
        curve = reward(given, self.tries, self.value_correct, self.value_wrong)
        rows += [
            ("value", k, "", float(curve[k]), None, None, int(all_of.sum()), values) for k in powers_of_two(self.tries)
        ]
        return rows


def _counts(both: pl.DataFrame) -> Ints:
    """Return, for each problem, how many samples are (right, accepted), (right, rejected), (wrong, accepted), (wrong,
    rejected): shape [problems, 4], in the order of the problems' keys."""
    yes, right = pl.col("accepted"), pl.col("right")
    kinds = {"a": right & yes, "b": right & ~yes, "c": ~right & yes, "d": ~right & ~yes}
    table = both.group_by("problem_key").agg(**{name: kind.sum().cast(pl.Int64) for name, kind in kinds.items()})
    return table.sort("problem_key").select(*kinds).to_numpy()
